"""Weights in and out: safetensors, and official files of torch and Paddle, read without running code in them."""

from __future__ import annotations

import functools
import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mattecli import atomic
from mattecli.errors import InputError, UsageError
from mattecli.zoo import paddle, registry

Tensors = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "params", "ema", "model")
"""Names under which files hold the table of tensors, beside epochs and optimisers. A training of ours has two, of which
`ema` is the one that it validates."""

_LENGTH = 8
"""A safetensors file begins with the length of its JSON header in eight bytes."""

_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8")),
]
"""What a number of numpy's is pickled as: some files note a score so."""

_COUNTER = "num_batches_tracked"
"""Files written by Paddle, or before PyTorch 0.4.1, have no such tensors, and inference never reads them."""

SLACK = 2
"""How many times more, or fewer, numbers than a network has parameters its official file may hold: they list encoders
twice, hold an unused classifier, or come without the heads of training."""

_PICKLE = b"\x80"
_TORCH_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
"""A pickle begins with its protocol; torch's legacy one goes on with this number."""


def read(path: Path, source: str | None = None) -> Tensors:
    """The tensors of a checkpoint by their keys, on the CPU, without wrappers and leading `module.`.

    The format is told by the content, not by the suffix: safetensors, torch's zip or legacy pickle, or Paddle's
    pickle, of which only tensors and plain containers are accepted. Messages call the file `source` instead of its
    path, if given. Raises `InputError` for a file that is missing, truncated or broken, `UsageError` for one that
    holds objects (which could run code) or no tensors.
    """
    source = source or str(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"Cannot read {source}: {error.strerror}.") from error
    if head[_LENGTH : _LENGTH + 1] == b"{":
        content: Any = _read_safetensors(path, source)
    elif head.startswith(_PICKLE) and _TORCH_LEGACY not in head:
        content = _read_pickle(path, source, paddle.load)
    else:
        content = _read_pickle(path, source, functools.partial(torch.load, map_location="cpu", weights_only=True))
    return _strip(_unwrap(content, source))


def _read_safetensors(path: Path, source: str) -> Tensors:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{source} is broken or incomplete: {error}.") from error


def _read_pickle(path: Path, source: str, load: Callable[[BinaryIO], Any]) -> Any:
    try:
        # An open file, because torch.load judges a path by its suffix.
        with (
            path.open("rb") as file,
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(_NUMBERS),
        ):
            return load(file)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise UsageError(
                f"{source} holds objects that could run code, not only tensors, so it was not loaded; "
                "take the file from its publisher, or save its state_dict alone."
            ) from error
        if isinstance(error, RuntimeError) and "weights_only" in str(error):
            raise UsageError(
                f"{source} is no table of tensors but TorchScript, or a form of PyTorch's before 2017, which cannot be "
                "read without running code; take the publisher's state_dict."
            ) from error
        raise InputError(f"{source} is incomplete, broken or no checkpoint.") from error


def _unwrap(content: Any, source: str) -> Tensors:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{source} holds no table of tensors (a state_dict).")
    return tensors


def _strip(tensors: Tensors) -> Tensors:
    """Without the prefix that DataParallel puts before every key, and what runs in it once more."""
    while all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def load(name: str, path: Path, source: str | None = None) -> nn.Module:
    """The network called `name` with the tensors of the checkpoint at `path`, on the CPU, in training mode.

    It is built without values, which are drawn only where the file lacks some that the network can do without. Raises
    as `read` and `fit` do; messages call the file `source`, if given.
    """
    source = source or str(path)
    tensors, network = read(path, source), _hollow(name)
    fit(network, tensors, name=name, source=source)
    if any(value.is_meta for value in (*network.parameters(), *network.buffers())):
        network = registry.card(name).build()
        fit(network, tensors, name=name, source=source)
    return network


def fit(network: nn.Module, tensors: Tensors, *, name: str, source: str) -> None:
    """Give `network`, on the CPU, copies of `tensors` in its own precision.

    Its `own_tensors` and `own_key`, if it has them, translate the official layout. Two official keys of one tensor must
    agree. `name` is the network's name in the zoo and `source` the file's, for messages. Raises `UsageError` where the
    file is of another network, or not whole.
    """
    own = network.state_dict()
    found = rename(network, tensors, source)
    counters = {key: value for key, value in own.items() if key.endswith(_COUNTER)}
    found = counters | found
    missing = [key for key in own if key not in found]
    unexpected = [key for key in found if key not in own]
    misshapen = [key for key in own if key in found and found[key].shape != own[key].shape]
    if missing or unexpected or misshapen:
        nearest = recognise(tensors, name)
        if nearest == name:
            faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
            raise UsageError(f"{source} does not fit {name}: {_summary(faults)}.")
        whose = f"those of {nearest}" if nearest else "of no network here"
        raise UsageError(f"{source} is no checkpoint of {name}: its keys are {whose}.")
    copies = {
        key: value.detach().to(own[key].dtype, copy=True, memory_format=torch.contiguous_format)
        for key, value in found.items()
    }
    network.load_state_dict(copies, assign=True)


def rename(network: nn.Module, tensors: Tensors, source: str) -> Tensors:
    """`tensors` under the network's own keys. Raises `UsageError` where two copies of one tensor differ."""
    own_key, own_tensors = _translation(network)
    renamed: Tensors = {}
    for key, value in own_tensors(tensors).items():
        mine = own_key(key)
        if mine in renamed and not torch.equal(renamed[mine], value):
            raise UsageError(f"{source} contradicts itself: {key!r} differs from its other copy.")
        renamed[mine] = value
    return renamed


def _translation(network: nn.Module) -> tuple[Callable[[str], str], Callable[[Tensors], Tensors]]:
    """A network's `own_key`, its name of an official key, and `own_tensors`, what it takes of an official file."""
    return getattr(network, "own_key", str), getattr(network, "own_tensors", dict)


def recognise(tensors: Tensors, expected: str) -> str | None:
    """The network of the zoo of which these are most of the weights and little else, None if they are of none.

    Of networks that differ in nothing but arithmetic (`dim`, `dim-skip`) it is `expected`, else the first.
    """
    size = sum(value.numel() for value in tensors.values())
    likely = {name: _likely(size, registry.card(name).parameters) for name in registry.names()}
    nearest, share = None, 0.5
    for name in sorted(likely, key=lambda name: (name != expected, -likely[name])):
        if share < min(1, likely[name]) and (found := _overlap(_bare(name), tensors)) > share:
            nearest, share = name, found
    return nearest


def _likely(size: int, parameters: int) -> float:
    """What `_overlap` does not exceed for a file of `size` numbers: networks need not be built to be ruled out."""
    return SLACK * min(size, parameters) / max(size, parameters, 1)


def _overlap(network: nn.Module, tensors: Tensors) -> float:
    """The share, in numbers, of what `tensors` and `network` have between them that is common to both."""
    own_key, own_tensors = _translation(network)
    own, given = (
        {(key, value.shape): value.numel() for key, value in of.items() if not key.endswith(_COUNTER)}
        for of in (network.state_dict(), {own_key(key): value for key, value in own_tensors(tensors).items()})
    )
    return sum(own[entry] for entry in own.keys() & given.keys()) / max(1, sum((own | given).values()))


class _Hollow(TorchFunctionMode):
    """Tensors that are made to be filled have no memory, and filling them does nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: dict[str, Any] = kwargs or {}
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):  # in place
            goal = (*args, *given.values())[0]
            if goal.is_meta:
                return goal
        return func(*args, **(given | {"device": "meta"} if func is torch.empty else given))


def _hollow(name: str) -> nn.Module:
    """A network without the weights: what has values was computed, not drawn."""
    with _Hollow():
        return registry.card(name).build()


_bare = functools.cache(_hollow)
"""A network's keys and shapes; one for all who ask."""


def _summary(faults: dict[str, list[str]]) -> str:
    return ", ".join(
        f"{len(keys)} tensor{'s' if len(keys) > 1 else ''} {what} ({keys[0]}{', …' if len(keys) > 1 else ''})"
        for what, keys in faults.items()
        if keys
    )


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write safetensors, whole or not at all. Metadata values other than strings become JSON.

    The same tensors and metadata make the same bytes. Raises `InputError` where the file cannot be written.
    """
    whole = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    about = {key: v if isinstance(v, str) else json.dumps(v) for key, v in (metadata or {}).items()}
    atomic.write(path, _in_order(serialize(whole, about)))


def _in_order(data: bytes) -> bytes:
    """The same safetensors with its metadata sorted by name: the library writes them in an order drawn anew."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    header = json.loads(data[_LENGTH:end])
    about = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items()))}
    text = json.dumps(about | header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)  # so that tensors stay aligned
    return len(text).to_bytes(_LENGTH, "little") + text + data[end:]
