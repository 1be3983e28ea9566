import io
import pickle

import numpy as np
import pytest
import torch

from mattecli.errors import InputError
from mattecli.zoo import checkpoints, paddle
from tests.zoo.making import Evil

ARRAYS = {
    "float32": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "float16": np.arange(5, dtype=np.float16),
    "float64": np.arange(6.0).reshape(2, 3),
    "int64": np.arange(4),
    "scalar": np.array(3.0, dtype=np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "big-endian": np.arange(4, dtype=">f4"),
    "bool": np.array([True, False]),
}


def write(path, content, protocol=2):
    """As paddle.save does."""
    path.write_bytes(
        pickle.dumps({**content, "StructuredToParameterName@@": {key: f"p_{key}" for key in content}}, protocol)
    )


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_come_back(tmp_path, protocol):
    write(tmp_path / "model.pdparams", ARRAYS, protocol)
    found = checkpoints.read(tmp_path / "model.pdparams")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        native = array.astype(array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(found[name].numpy(), native)
        assert found[name].numpy().dtype == native.dtype


def test_files_of_older_numpy(tmp_path):
    """Its arrays are made by a function under another name."""
    path = tmp_path / "model.pdparams"
    write(path, ARRAYS)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.equal(checkpoints.read(path)["float64"], torch.from_numpy(ARRAYS["float64"]))


def test_no_code_is_run_from_inside_an_array(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "model.pdparams"
    write(path, {"evil": np.array([Evil(trace)], dtype=object)})
    with pytest.raises(InputError, match="broken or no checkpoint"):
        checkpoints.read(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", [b"builtins\neval", b"os\nsystem", b"numpy\nload", b"_codecs\nlookup", b"torch\nload"])
def test_other_names_are_refused(name):
    module, function = name.decode().split("\n")
    with pytest.raises(pickle.UnpicklingError, match=f"GLOBAL {module}.{function}"):
        paddle.load(io.BytesIO(b"\x80\x02c" + name + b"\n."))


@pytest.mark.parametrize("name", [b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode"])
def test_a_file_changes_nothing_of_ours(name):
    """It sets an attribute of what it may call, which is its state in a pickle's eyes."""
    before = dict(paddle._STAND_INS)
    with pytest.raises(pickle.UnpicklingError, match="no state"):
        paddle.load(io.BytesIO(b"\x80\x02c" + name + b"\nN}(X\x04\x00\x00\x00callNu\x86b."))
    assert paddle._STAND_INS == before


@pytest.mark.parametrize("encoding", ["utf-8", "rot13", "zlib"])
def test_bytes_are_written_as_latin1_only(encoding):
    payload = f"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX{chr(len(encoding))}\x00\x00\x00{encoding}\x86R."
    with pytest.raises(pickle.UnpicklingError, match=encoding):
        paddle.load(io.BytesIO(payload.encode("latin1")))


@pytest.mark.parametrize("kept", [1, 3, 40, 200, -10])
def test_truncated_files(tmp_path, kept):
    path = tmp_path / "whole"
    write(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="whole"):
        checkpoints.read(path)


def test_too_few_bytes_for_the_shape(tmp_path):
    path = tmp_path / "model.pdparams"
    write(path, {"a": np.arange(3, dtype=np.int8)})
    content = path.read_bytes()
    assert content.count(b"K\x03\x85") == 1  # the shape, (3,)
    path.write_bytes(content.replace(b"K\x03\x85", b"K\x04\x85"))
    with pytest.raises(InputError, match="broken"):
        checkpoints.read(path)
