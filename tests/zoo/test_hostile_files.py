"""Files made to harm: no code in them is run, and the user gets one sentence. Each is shown to be harmful first."""

import contextlib
import io
import json
import pickle
import struct
import tarfile
from functools import partial

import pytest
import torch
from typer.testing import CliRunner

from mattecli.cli import app
from mattecli.errors import InputError, UsageError
from mattecli.training.checkpoint import Checkpoint
from mattecli.zoo import checkpoints
from tests.zoo.making import Evil


def torch_tar(content, path):
    """The layout of torch before 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = pickle.dumps(content, protocol=2)
            about = tarfile.TarInfo(name)
            about.size = len(member)
            archive.addfile(about, io.BytesIO(member))


def plain(content, path, protocol):
    path.write_bytes(pickle.dumps(content, protocol))


def paddle(content, path):
    plain({**content, "StructuredToParameterName@@": {}}, path, 2)


PICKLES = {
    "torch's zip": torch.save,
    "torch's legacy": partial(torch.save, _use_new_zipfile_serialization=False),
    "torch's tar": torch_tar,
    "paddle": paddle,
    **{f"protocol {protocol}": partial(plain, protocol=protocol) for protocol in range(6)},
}
HIDE = {"value": lambda evil: evil, "in a list": lambda evil: [evil], "beside": lambda evil: {"deep": (1, evil)}}


def careless(path):
    """Read as anyone would who trusts the file. That it may fail as well, later, is no matter."""
    for read in (partial(torch.load, weights_only=False), lambda path: pickle.loads(path.read_bytes())):
        with contextlib.suppress(Exception):
            read(path)


def refuse(path, home):
    """`models import` of the file ends with one sentence and leaves nothing."""
    result = CliRunner().invoke(app, ["models", "import", "modnet", str(path)], env={"MATTECLI_HOME": str(home)})
    assert result.exit_code in (1, 2) and not result.stdout and not home.exists()
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ") and str(path) in result.stderr


@pytest.mark.parametrize("hide", HIDE)
@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_run_nothing(tmp_path, kind, hide):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    PICKLES[kind]({"conv.weight": torch.ones(2), "evil": HIDE[hide](Evil(trace))}, path)
    refuse(path, tmp_path / "home")
    assert not trace.exists()
    careless(path)
    assert trace.exists(), "the file is harmless, so this test proves nothing"


@pytest.mark.parametrize("kind", ["torch's zip", "torch's legacy", "torch's tar", "protocol 0", "protocol 2"])
def test_training_checkpoints_run_nothing(tmp_path, kind):
    path, trace = tmp_path / "last.ckpt", tmp_path / "trace"
    PICKLES[kind]({"model": {}, "step": Evil(trace)}, path)
    with pytest.raises(InputError, match=r"last\.ckpt is (not a|damaged or no) checkpoint of mattecli train"):
        Checkpoint.load(path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore")
def test_what_only_running_code_could_read_is_said_to_be_so(tmp_path):
    script, tar = tmp_path / "script.pt", tmp_path / "old.pth"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    torch_tar({"a": 1}, tar)
    for path in (script, tar):
        with pytest.raises(UsageError, match=rf"{path.name} is no table of tensors but TorchScript.*publisher"):
            checkpoints.read(path)


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(start, stop, shape=(2,), kind="F32"):
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(struct.pack("<Q", 2**63) + b"{}" * 20, id="a header longer than any file"),
        pytest.param(struct.pack("<Q", 2**64 - 1) + b"{}" * 20, id="a header whose end overflows"),
        pytest.param(struct.pack("<Q", 1000) + b"{}" * 20, id="a header longer than the file"),
        pytest.param(safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)), id="tensors that overlap"),
        pytest.param(safetensors({"a": tensor(0, 8), "b": tensor(0, 8)}, bytes(8)), id="tensors in one place"),
        pytest.param(safetensors({"a": tensor(8, 0)}, bytes(8)), id="an end before its start"),
        pytest.param(safetensors({"a": tensor(0, 2**42, (2**40,))}, bytes(8)), id="a tensor beyond the file"),
        pytest.param(safetensors({"a": tensor(0, 8, (2**40, 2**40))}, bytes(8)), id="a size that overflows"),
        pytest.param(safetensors({"a": tensor(0, 8, kind="OBJ")}, bytes(8)), id="a tensor of objects"),
        pytest.param(safetensors(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), id="deep objects"),
        pytest.param(safetensors(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), id="deep lists"),
        pytest.param(safetensors(b'{"a":NaN}'), id="no JSON"),
        pytest.param(safetensors({}), id="nothing"),
    ],
)
def test_safetensors_with_a_hostile_header(tmp_path, content):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(content)
    refuse(path, tmp_path / "home")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x80\x02" + b"(" * 100_000 + b".", id="marks without end"),
        pytest.param(b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b".", id="a list in a list"),
        pytest.param(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", id="bytes beyond the file"),
        pytest.param(b"\x80\x02" + b"}" * 100_000 + b"X\x01\x00\x00\x00a" + b"0.", id="the end of a stack"),
    ],
)
def test_pickles_that_exhaust(tmp_path, content):
    path = tmp_path / "evil.pdparams"
    path.write_bytes(content)
    refuse(path, tmp_path / "home")
