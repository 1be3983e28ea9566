import gc
import json
import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.benchmark import networks
from mattecli.benchmark.networks import Variant, bench
from mattecli.cli import app
from mattecli.errors import UsageError
from mattecli.inference import devices
from mattecli.zoo.spec import Prediction, Spec, long_side


class Tiny(nn.Module):
    """One 3×3 convolution, 3 → 1: 27 multiply-adds a pixel."""

    def __init__(self, needs="image", least=0):
        super().__init__()
        self.spec = Spec(size=long_side(64, 32), needs=needs)
        self.conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(1)
        self.least = least

    def forward(self, image, *, trimap=None, background=None, state=None):
        if image.shape[-1] < self.least:
            raise RuntimeError(f"too small\nless than {self.least}")
        given = {"image": True, "trimap": trimap is not None, "background": background is not None}
        assert given[self.spec.needs] and sum(given.values()) == (1 if self.spec.needs == "image" else 2)
        return Prediction(self.norm(self.conv(image)).sigmoid())


class Fused(Tiny):
    def fuse(self):
        fused = Tiny().eval()
        fused.norm = nn.Identity()
        return fused


def test_the_figures_of_a_network():
    variant = Variant("tiny", 32, 64, batch=3, precision="fp32", device="cpu")
    steps = []
    (result,) = bench([variant], runs=5, progress=steps.append, create=lambda name: Tiny())
    assert result.variant == variant and result.error is None and result.runs == 5
    assert result.macs == 27 * 32 * 64 and result.parameters == 27 + 2
    assert 0 < result.quartiles[0] <= result.seconds <= result.quartiles[1]
    assert result.per_second == pytest.approx(3 / result.seconds)
    assert result.memory is None or 0 <= result.memory < 2**30
    assert sum(steps) == 6


class Queries(Tiny):
    """A module whose input is a view of a parameter, as transformers' learned queries are."""

    def __init__(self):
        super().__init__()
        self.queries, self.project = nn.Parameter(torch.zeros(1, 4)), nn.Linear(4, 1)

    def forward(self, image, *, trimap=None, background=None, state=None):
        return Prediction(super().forward(image).alpha + self.project(self.queries.expand(2, -1)).mean())


def test_learned_queries_are_counted_too():
    variant = Variant("queries", 32, 32, batch=1, precision="fp32", device="cpu")
    (result,) = bench([variant], runs=1, create=lambda name: Queries())
    assert result.error is None and result.macs == 27 * 32 * 32 + 8


def test_a_network_is_fused_when_it_can_be():
    (result,) = bench([Variant("x", 32, 32)], runs=1, create=lambda name: Fused())
    assert result.parameters == 27 and result.quartiles == (result.seconds, result.seconds)


@pytest.mark.parametrize("needs", ["trimap", "background"])
def test_a_network_gets_what_it_needs(needs):
    (result,) = bench([Variant("x", 32, 32, batch=2)], runs=1, create=lambda name: Tiny(needs))
    assert result.error is None


def test_variants_take_turns(monkeypatch):
    turns = []

    def prepare(variant, create):
        return networks._Ready(variant, lambda: turns.append(variant.model), 1, None, 1, 1)

    monkeypatch.setattr(networks, "_prepare", prepare)
    bench([Variant("a"), Variant("b")], runs=2)
    assert turns == ["a", "a", "b", "b"] * 2  # a pass to fill the caches, and a timed one


def test_what_is_slow_is_timed_less(monkeypatch):
    """Only of the slow one: its warm-up ends at once, and of its timed passes there are three, none with a lead-in."""
    clock, passes, steps = [0.0], {"slow": 0, "quick": 0}, []
    monkeypatch.setattr(networks.time, "perf_counter", lambda: clock[0])

    class Timed(Tiny):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, image, **given):
            clock[0] += {"slow": 10, "quick": 0.01}[self.name]
            passes[self.name] += 1
            return super().forward(image, **given)

    few = [Variant(name, 32, 32, precision="fp32", device="cpu") for name in passes]
    slow, quick = bench(few, runs=9, progress=steps.append, create=Timed)
    assert (slow.runs, quick.runs) == (3, 9) and sum(steps) == 2 * (9 + 1)
    assert slow.seconds == 10 and quick.seconds == pytest.approx(0.01)
    counted = 1
    assert passes == {"slow": counted + 1 + (1 + 3), "quick": counted + networks.WARM_UP + 2 * 9}


def test_a_zoo_larger_than_memory_comes_in_parts(monkeypatch):
    """Each network is given up before the next is built where their weights together are too many."""
    alive = weakref.WeakSet()
    most = []

    def create(name):
        gc.collect()
        most.append(len(alive))
        made = Tiny()
        alive.add(made)
        return made

    for held, expected in ((1, 0), (2**30, 2)):
        monkeypatch.setattr(networks, "HELD", held)
        most.clear()
        results = bench([Variant(name, 32, 32) for name in "abc"], runs=1, create=create)
        assert [result.variant.model for result in results] == ["a", "b", "c"] and max(most) == expected


def test_memory_holds_the_weights():
    def create(name):
        made = Tiny()
        made.large = nn.Parameter(torch.ones(2**24))
        return made

    (result,) = bench([Variant("x", 32, 32, device="cpu")], runs=1, create=create)
    assert result.memory is None or 2**26 <= result.memory < 2**26 + 2**25


def test_a_trimap_knows_both_and_leaves_most_open():
    """Of a trimap that knows nothing, equations need not be solved."""
    seen = []

    class Trimaps(Tiny):
        def forward(self, image, *, trimap=None, **given):
            seen.append(trimap)
            return super().forward(image, trimap=trimap)

    bench([Variant("x", 32, 16, batch=2)], runs=1, create=lambda name: Trimaps("trimap"))
    known = seen[-1].mean((1, 3))
    assert (known[:, :4] == 0).all() and (known[:, 4:28] == 0.5).all() and (known[:, 28:] == 1).all()


class Attending(Tiny):
    def forward(self, image, *, trimap=None, background=None, state=None):
        tokens = image[:1, :1].flatten(2)[..., None].expand(-1, -1, -1, 8)
        return Prediction(
            super().forward(image).alpha + nn.functional.scaled_dot_product_attention(*[tokens] * 3).mean()
        )


def test_attention_is_counted_too():
    (result,) = bench([Variant("x", 8, 8, device="cpu")], runs=1, create=lambda name: Attending())
    assert result.macs == 27 * 64 + 2 * 8 * 64**2


def test_what_fails_is_told_and_the_rest_is_done():
    steps = []
    variants = [Variant("x", 32, width, device="cpu", precision="fp32") for width in (32, 64)]
    small, large = bench(variants, runs=3, progress=steps.append, create=lambda name: Tiny(least=64))
    assert small.error == "too small" and small.seconds is None and small.macs is None
    assert large.error is None and large.runs == 3
    assert sum(steps) == 8


@pytest.mark.parametrize(("half", "expected"), [(False, "fp32"), (True, "bf16")])
def test_auto_is_what_matte_would_take(half, expected, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: True)
    tiny = Tiny()
    tiny.spec = replace(tiny.spec, half=half)
    (result,) = bench([Variant("x", 32, 32, device="cpu")], runs=1, create=lambda name: tiny)
    assert result.error is None and result.variant.precision == expected
    (result,) = bench([Variant("x", 32, 32)], runs=1, create=lambda name: Tiny())
    assert result.variant.device != "auto"
    assert networks.machine(result.variant.device)


@pytest.mark.parametrize("wrong", [{"device": "cuda:99"}, {"precision": "fp7"}, {"engine": "steam"}])
def test_what_is_not_there_is_refused_before_work(wrong):
    with pytest.raises(UsageError):
        bench([Variant("x"), Variant("x", **wrong)], create=lambda name: pytest.fail("work began"))


@pytest.mark.parametrize("needs", ["image", "trimap"])
def test_openvino(needs):
    pytest.importorskip("openvino")
    variant = Variant("x", 32, 32, batch=2, device="cpu", precision="fp32", engine="openvino")
    (result,) = bench([variant], runs=2, create=lambda name: Tiny(needs))
    assert result.error is None and result.macs == 27 * 32 * 32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_on_cuda_holds_input_and_output():
    (result,) = bench([Variant("x", 512, 512, device="cuda", precision="fp32")], runs=2, create=lambda name: Tiny())
    assert result.memory >= 4 * 4 * 512 * 512


@pytest.fixture
def tiny_zoo(monkeypatch):
    monkeypatch.setattr(zoo, "create", lambda name: Tiny(least=64))


def command(*arguments):
    return CliRunner().invoke(app, ["bench", *arguments])


def test_command_crosses_lists(tiny_zoo):
    result = command(
        "realtime", "--size", "64x32,128", "--batch", "1,2", "--precision", "fp32,bf16", "--device", "cpu",
        "--runs", "2", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    seen = [(r["width"], r["height"], r["batch"], r["precision"]) for r in records]
    assert seen == [(w, h, n, p) for w, h in ((64, 32), (128, 128)) for n in (1, 2) for p in ("fp32", "bf16")]
    assert records[0]["ratio"] == 1 and all(math.isfinite(r["seconds"]) and r["runs"] == 2 for r in records)
    assert all(r["machine"] and r["torch"] and r["engine"] == "torch" for r in records)


def test_command_compares_the_zoo(tiny_zoo, monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: ("realtime", "gca"))
    few = "--size", "64", "--device", "cpu", "--precision", "fp32", "--runs", "1"
    result = command(*few, "--all")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in zoo.names()) and "ratio" in result.stdout
    usual = command(*few)
    assert usual.exit_code == 0 and "modnet" in usual.stdout and "gca" not in usual.stdout
    assert command("realtime", "--all").exit_code == 2


def test_networks_may_be_announced(tiny_zoo):
    assert "called 'no-such'" in command("networks", "no-such").stderr


def test_command_tells_failures(tiny_zoo):
    result = command("realtime", "--size", "32,64", "--device", "cpu", "--precision", "fp32", "--runs", "1")
    assert result.exit_code == 1
    assert "realtime, 32x32, batch 1, fp32, cpu, torch: too small" in result.stderr and "failed" in result.stdout


@pytest.mark.parametrize(
    "wrong",
    [["no-such"], ["--size", "3x"], ["--size", "0x9"], ["--batch", "0"], ["--batch", "x"], ["--device", "cuda:99"],
     ["--precision", "fp7"], ["--engine", "steam"], ["--size", ","]],
)  # fmt: skip
def test_command_refuses(wrong):
    result = command(*wrong)
    assert result.exit_code == 2 and result.stdout == ""
