import functools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.zoo import checkpoints
from tests.zoo.making import Evil


def torch_zip(content, path):
    torch.save(content, path)


def torch_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch_zip, torch_legacy, plain_pickle])
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt", ".safetensors"])
def test_no_code_is_run(tmp_path, write, suffix):
    trace, path = tmp_path / "trace", tmp_path / f"evil{suffix}"
    write({"state_dict": {"a": Evil(trace)}}, path)
    with pytest.raises(UsageError, match="could run code"):
        zoo.load("realtime", path)
    assert not trace.exists()
    if write is plain_pickle:
        pickle.loads(path.read_bytes())
        assert trace.exists(), "the file is harmless, so this test proves nothing"


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_score_of_numpys_beside_the_tensors(tmp_path, write):
    write({"epoch": 12, "state_dict": {"a": torch.arange(3.0)}, "best_sad": np.float64(54.4)}, tmp_path / "x.pth")
    assert checkpoints.read(tmp_path / "x.pth")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize(
    "wrappers",
    [
        (),
        *((name,) for name in ("state_dict", "model_state_dict", "model_state", "params", "ema", "model")),
        *(("params", "state_dict"), ("model", "params"), ("state_dict", "model")),
    ],
)
def test_wrappers_and_prefix_come_off(tmp_path, write, wrappers):
    content = {"module.a": torch.arange(3.0), "module.b": torch.ones(2, dtype=torch.float16)}
    for wrapper in wrappers:
        content = {"epoch": 3, wrapper: content}
    write(content, tmp_path / "x.pth")
    tensors = checkpoints.read(tmp_path / "x.pth")
    assert list(tensors) == ["a", "b"]
    assert tensors["a"].tolist() == [0, 1, 2] and tensors["b"].dtype == torch.float16


def test_the_prefix_comes_off_as_often_as_it_is_there(tmp_path):
    torch.save({"module.module.a": torch.ones(1)}, tmp_path / "x.pth")
    assert list(checkpoints.read(tmp_path / "x.pth")) == ["a"]


def test_of_a_training_of_ours_the_mean_weights_are_taken(tmp_path):
    state = {"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}, "optimizer": {"state": {}}, "step": 3}
    torch.save(state, tmp_path / "last.ckpt")
    assert checkpoints.read(tmp_path / "last.ckpt")["a"] == 1


@pytest.mark.parametrize("beside", [{"epoch": 3, "losses": [0.1]}, {"optimizer": {"state": {0: torch.ones(2)}}}])
def test_what_training_left_beside_the_tensors_is_passed_over(tmp_path, beside):
    torch.save({"a": torch.ones(1), **beside}, tmp_path / "x.pth")
    assert list(checkpoints.read(tmp_path / "x.pth")) == ["a"]


def test_the_prefix_stays_where_not_all_have_it():
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert checkpoints._strip(tensors) is tensors


def test_save_and_read_round_trip(tmp_path):
    tensors = {"a": torch.rand(2, 3).T, "b": torch.tensor(7)}
    path = tmp_path / "new" / "x.safetensors"
    checkpoints.save(path, tensors, {"steps": 10, "recipe": "a"})
    found = checkpoints.read(path)
    assert all(torch.equal(found[key], tensors[key]) for key in tensors) and found.keys() == tensors.keys()
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert json.loads(about["steps"]) == 10 and about["recipe"] == "a"
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_the_same_content_makes_the_same_bytes(tmp_path):
    tensors = {"a": torch.rand(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    about = {f"key {number}": "\u00e4" * number for number in range(8)}
    for name, order in (("one", list(about)), ("two", list(about)[::-1])):
        checkpoints.save(tmp_path / name, tensors, {key: about[key] for key in order})
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0
    with safe_open(tmp_path / "one", "pt") as file:
        assert file.metadata() == about and torch.equal(file.get_tensor("a"), tensors["a"])


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    checkpoints.save(path, {"a": torch.ones(1)})
    before = path.read_bytes()

    def full(part, data):
        with part.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(InputError, match="no space left"):
        checkpoints.save(path, {"a": torch.zeros(1)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0, 3, 40, 0.5, 0.99])
def test_truncated_files(tmp_path, kind, kept):
    path, tensors = tmp_path / "whole", {"a": torch.rand(500), "b": torch.rand(3)}
    if kind == "safetensors":
        checkpoints.save(path, tensors)
    else:
        (torch_zip if kind == "zip" else torch_legacy)(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(InputError, match="whole"):
        checkpoints.read(path)


def test_what_is_no_checkpoint(tmp_path):
    page, folder, empty = tmp_path / "page.pth", tmp_path / "folder.pth", tmp_path / "list.pth"
    page.write_text("<!DOCTYPE html> Google Drive can't scan this file for viruses.")
    folder.mkdir()
    torch.save([1, 2], empty)
    for path in (page, folder, tmp_path / "missing.pth"):
        with pytest.raises(InputError, match=path.name):
            checkpoints.read(path)
    with pytest.raises(UsageError, match="no table of tensors"):
        checkpoints.read(empty)


def test_a_file_of_another_network_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    checkpoints.save(path, zoo.create("modnet").state_dict())
    with pytest.raises(UsageError, match=r"no checkpoint of realtime: its keys are those of modnet"):
        zoo.load("realtime", path)
    checkpoints.save(path, {"conv.weight": torch.ones(1)})
    with pytest.raises(UsageError, match="no network here"):
        zoo.load("realtime", path)


@pytest.fixture
def built(monkeypatch):
    """The networks that `recognise` builds."""
    names, build = [], checkpoints._bare.__wrapped__

    def bare(name):
        names.append(name)
        return build(name)

    monkeypatch.setattr(checkpoints, "_bare", functools.cache(bare))
    return names


@pytest.mark.parametrize("name", ["realtime", "gca", "gfm-rim-r101", "bgmv2-base-resnet50", "rvm-mobilenetv3-fast"])
def test_a_whole_file_is_recognised_with_few_networks_built(built, name):
    tensors = checkpoints._bare(name).state_dict()
    built.clear()
    assert checkpoints.recognise(tensors, "modnet") == name
    assert len(built) <= 4
    built.clear()
    assert checkpoints.recognise(tensors, name) == name and built == []


def test_the_nearest_is_found_in_what_is_not_whole():
    tensors = checkpoints._bare("bisenetv2-coco").state_dict()
    for key in [key for key in tensors if key.startswith("aux3.")]:
        del tensors[key]
    assert checkpoints.recognise(tensors, "realtime") == "bisenetv2-coco"


def test_what_is_far_too_small_or_large_is_of_none_at_once(built):
    for count in (1, 10**12):
        assert checkpoints.recognise({"a": torch.empty(count, device="meta")}, "realtime") is None
    assert built == []


@pytest.mark.parametrize("name", ["realtime", "gca", "e2ehim-swint"])
def test_keys_and_shapes_need_no_values(name):
    real, bare = zoo.create(name).state_dict(), checkpoints._bare(name).state_dict()
    assert {key: value.shape for key, value in real.items()} == {key: value.shape for key, value in bare.items()}
    assert sum(value.nbytes for value in bare.values() if not value.is_meta) < 2**20


def test_to_recognise_a_file_dynamo_is_not_imported():
    """Values for tensors that have none cost its import, four seconds."""
    code = """
import sys
from mattecli import zoo
from mattecli.zoo import checkpoints
for name in ("realtime", "gca", "ppmatting-hrnet18", "gfm-tt-r34", "e2ehim-swint"):
    checkpoints._bare(name)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_faults_are_one_sentence(tmp_path):
    tensors = zoo.create("realtime").state_dict()
    first, second, *_ = (key for key in tensors if key.endswith("weight"))
    del tensors[first]
    tensors[second] = torch.ones(1)
    tensors["extra"] = tensors["more"] = torch.ones(1)
    path = tmp_path / "w.safetensors"
    checkpoints.save(path, tensors)
    with pytest.raises(UsageError) as caught:
        zoo.load("realtime", path)
    assert "does not fit realtime: 1 tensor missing (" + first + ")" in str(caught.value)
    assert "2 tensors unexpected (extra, …), 1 tensor of another shape (" + second + ")" in str(caught.value)


def test_no_weights_are_drawn_only_to_be_replaced(tmp_path):
    network = zoo.create("modnet")
    checkpoints.save(tmp_path / "w.safetensors", network.state_dict())
    before = torch.get_rng_state()
    loaded = zoo.load("modnet", tmp_path / "w.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(network.named_parameters(), loaded.named_parameters(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1]) and other[1].requires_grad
    for one, other in zip(network.named_buffers(), loaded.named_buffers(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])


def test_what_the_file_lacks_is_drawn(tmp_path):
    """BiSeNetV2's auxiliary heads, where it was saved for inference."""
    tensors = zoo.create("bisenetv2").state_dict()
    torch.save({key: value for key, value in tensors.items() if not key.startswith("aux")}, tmp_path / "lean.pth")
    for key, value in zoo.load("bisenetv2", tmp_path / "lean.pth").named_parameters():
        assert value.isfinite().all()
        assert value.std() > 0 if key.endswith("conv.weight") else key.startswith("aux") or value.equal(tensors[key])


def test_a_network_shares_no_memory_with_the_file_or_itself(tmp_path):
    """Saved tensors may be views of one another; trained, they must not change together."""
    network = zoo.create("bgmv2-base-mobilenetv2")
    tensors = network.state_dict()
    one = torch.zeros(sum(value.numel() for value in tensors.values() if value.ndim == 1))
    views = {key: one[: len(value)] if value.ndim == 1 else value for key, value in tensors.items()}
    checkpoints.fit(network, views, name="bgmv2-base-mobilenetv2", source="x")
    places = [value.untyped_storage().data_ptr() for value in network.state_dict().values()]
    assert len(set(places)) == len(places)
    assert one.untyped_storage().data_ptr() not in places


def test_half_precision_and_absent_counters_load(tmp_path):
    network = zoo.create("modnet")
    tensors = {k: v.half() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "half.pth")
    loaded = zoo.load("modnet", tmp_path / "half.pth")
    weight = loaded.lr_branch.conv_lr.layers[0].weight
    assert weight.dtype == torch.float32 and not loaded.training
    torch.testing.assert_close(weight, network.lr_branch.conv_lr.layers[0].weight, atol=1e-3, rtol=1e-3)


def test_no_weights_says_how_to_bring_them(monkeypatch, tmp_path):
    monkeypatch.setenv("MATTECLI_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"browser, then `mattecli models import modnet FILE`"):
        zoo.load("modnet")
    with pytest.raises(UsageError, match=r"`mattecli models pull rvm-mobilenetv3` downloads them"):
        zoo.load("rvm-mobilenetv3")
