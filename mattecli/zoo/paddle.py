"""Paddle's `.pdparams` files, read without Paddle and without running anything in them.

Such a file is a pickle of `{name: numpy array}` and one table of bookkeeping. Unpickling calls whatever the file
names, so nothing is looked up by name here: what numpy writes for an array is met by stand-ins of ours that collect
its parts, and any other name is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

SCALARS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
"""numpy's codes for what a checkpoint may hold; objects (`O`) and records are not among them."""


class _StandIn(NamedTuple):
    """Something that a pickle may call, but not change."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function has no state")


class _Scalar:
    """numpy.dtype: its code, and the byte order that follows as state."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in SCALARS:
            raise pickle.UnpicklingError(f"an array of {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """numpy.ndarray: nothing at first; shape, type, order and bytes follow as state."""

    tensor: Tensor

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Scalar, bool, bytes]) -> None:
        _, shape, scalar, columns_first, content = state
        flat = np.frombuffer(content, f"{scalar.order}{scalar.code}")
        array = flat.reshape(shape, order="F" if columns_first else "C")
        self.tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _bytes(text: str, encoding: str) -> bytes:
    """_codecs.encode, by which protocols before 3 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _StandIn(_Array),
    ("numpy", "dtype"): _StandIn(_Scalar),
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(lambda *_: _Array()),
    ("numpy._core.multiarray", "_reconstruct"): _StandIn(lambda *_: _Array()),
    ("_codecs", "encode"): _StandIn(_bytes),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _StandIn:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return _STAND_INS[module, name]


def load(file: BinaryIO) -> Any:
    """What a `.pdparams` holds, its arrays as tensors on the CPU.

    Raises `pickle.UnpicklingError` with `GLOBAL` in its text where the file names anything but arrays, as torch's
    `weights_only` does; any other exception means that it is broken.
    """
    return _tensors(_Unpickler(file).load())


def _tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in content.items()}
    return content.tensor if isinstance(content, _Array) else content
