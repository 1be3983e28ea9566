"""Fixtures that several rooms share."""

import json
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# One thread a process, also in what tests start: on a busy machine two OpenMP threads wait for each other far longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test sees, or changes, the weights that its user has pulled.
os.environ["MATTECLI_HOME"] = tempfile.mkdtemp()

DATA = Path(__file__).parent / "data"


def synthetic(key, shape):
    """The value of the recorded checkpoint's tensor called `key`, the same on every machine."""
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    if key.endswith("num_batches_tracked"):
        return np.asarray(1000, dtype=np.int64)
    if key.endswith("_mean"):
        value = random.uniform(-0.1, 0.1, shape)
    elif key.endswith(("_var", "_variance")):
        value = random.uniform(0.5, 1.5, shape)
    elif "bias" in key.rpartition(".")[2]:
        value = random.uniform(-0.1, 0.1, shape)
    elif len(shape) >= 2:
        bound = float(np.sqrt(3.0) * np.sqrt(2.0 / int(np.prod(shape[1:]))))
        value = random.uniform(-bound, bound, shape)
    else:
        value = random.uniform(0.75, 1.25, shape)
    return value.astype(np.float32)


@dataclass
class Parity:
    """One recorded reference: `checkpoint` {key: array} in the released layout, `arrays` as stored."""

    checkpoint: dict
    arrays: dict
    stride: dict

    def input(self, name):
        return self.arrays[f"in/{name}"]

    def outputs(self, case):
        prefix = f"out/{case}/"
        return {key.removeprefix(prefix): key for key in self.arrays if key.startswith(prefix)}

    def check(self, case, found, tolerance=1e-4):
        """Every recorded output of `case` is in `found` {name: array} and equal to it within `tolerance`."""
        outputs = self.outputs(case)
        assert outputs
        for name, key in outputs.items():
            step = self.stride.get(key, 1)
            np.testing.assert_allclose(
                found[name][..., ::step, ::step], self.arrays[key], atol=tolerance, rtol=0, err_msg=key
            )


@pytest.fixture(scope="session")
def parity():
    """`parity("modnet")` rebuilds a reference from tests/data/parity/modnet.npz."""

    def load(name):
        with np.load(DATA / "parity" / f"{name}.npz") as archive:
            arrays = dict(archive)
        meta = json.loads(arrays.pop("meta.json").tobytes())
        checkpoint = {}
        for entry in meta["keys"]:
            key, alias = entry["key"], entry["alias_of"]
            stored = arrays.get(f"cal/{key}")
            if alias:
                checkpoint[key] = checkpoint[alias]
            else:
                checkpoint[key] = synthetic(key, tuple(entry["shape"])) if stored is None else stored
        return Parity(checkpoint, arrays, meta["stride"])

    return load


@pytest.fixture
def one_thread():
    """Networks so small compute faster in one thread than two agree on who does what."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
