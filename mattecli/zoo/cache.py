"""Weights downloaded or imported: converted to safetensors once, then found by the network's name.

$MATTECLI_HOME, else $XDG_CACHE_HOME/mattecli, else the platform's usual place
    NAME.safetensors     the network's own keys; the header says where they came from. A published file that several
                         networks take is kept once, under the first one's name
    NAME.json            the checksum of the first download, where the card knows none
    downloads/           what is not yet whole
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mattecli.errors import InputError, MatteError, UsageError
from mattecli.zoo.registry import Card, card, names

if TYPE_CHECKING:
    from torch import Tensor

    from mattecli.zoo.download import Report

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Kept:
    """Weights in the cache. `source` is the address or file they came from and `sha256` that file's; "" if unknown."""

    network: str
    path: Path
    bytes: int
    tensors: int
    source: str
    sha256: str
    date: str


def folder() -> Path:
    """Where weights are kept. It need not be there yet."""
    if home := os.environ.get("MATTECLI_HOME"):
        return Path(home).expanduser().absolute()
    if (caches := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():  # its specification ignores others
        return caches / "mattecli"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mattecli" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mattecli"
    return Path.home() / ".cache" / "mattecli"


def find(about: Card) -> Path | None:
    """The weights that `load` takes where none are named: those in the package, else those in the cache."""
    kept = _place(_keeper(about))
    return about.included or (kept if kept.is_file() else None)


def remedy(about: Card) -> str:
    """How a user brings weights that are not here: half a sentence."""
    if about.download:
        return f"`mattecli models pull {about.name}` downloads them"
    if about.address:
        return f"take the file from {about.address} in a browser, then `mattecli models import {about.name} FILE`"
    return "none are published, so train it (`mattecli train`), or pass --weights FILE"


def licence_notice(name: str, weights: Path | None) -> str | None:
    """A sentence for users where the weights in use are not free for every use, else None.

    `weights` is the file that the user named, None for those that `load` finds. A named file counts only if it is the
    published one: by the card's checksum, or that of what was downloaded or imported here.
    """
    about = card(name)
    if about.terms == "free" or not about.address:
        return None
    if not (find(about) if weights is None else _is_published(about, weights)):
        return None
    return f"The weights of {name} are not free for every use; their licence: {about.weights_licence}."


def entry(name: str) -> Kept | None:
    """What is kept for the network called `name`."""
    path = _place(_keeper(card(name)))
    return _read(path) if path.is_file() else None


def entries() -> list[Kept]:
    """All that is kept, by name."""
    return [_read(path) for path in sorted(folder().glob(f"[!.]*{SUFFIX}"))]


def unfinished() -> dict[str, int]:
    """Bytes of each network's download that broke off."""
    return {path.stem: path.stat().st_size for path in sorted(_part("").parent.glob("*.part"))}


def keep(name: str, file: Path) -> Kept:
    """Convert `file`, a checkpoint of the network called `name` in any layout that `load` takes, into the cache.

    Raises `UsageError` where the network has no use for it or the file is another's, `InputError` where it cannot be
    read or the cache not written; the cache is then as before.
    """
    _check_use(card(name))
    return _store(name, _translate(name, file, str(file)), file.name, checksum(file))


def pull(name: str, report: Report, offline: bool) -> Kept:
    """Download, check and convert the published weights of the network called `name`.

    `report` hears of the bytes. The checksum is compared with the card's, or where that knows none with the first
    download's. Raises `UsageError` where there is nothing to download or `offline` forbids it, `InputError` where it
    fails; the cache is then as before, but for the beginning of the file.
    """
    from mattecli.zoo import download

    about = card(name)
    _check_use(about)
    address = about.download
    if not address:
        raise UsageError(f"The weights of {name} cannot be downloaded by a program: {remedy(about)}.")
    if offline:
        raise UsageError(f"Offline: no connection was made, so the weights of {name} were not downloaded.")
    keeper = _keeper(about)
    part = _part(keeper)
    part.parent.mkdir(parents=True, exist_ok=True)
    with download.alone(part.with_suffix(".lock")):
        download.fetch(address, part, report)
        digest = checksum(part)
        try:
            _compare(about, digest)
            tensors = _translate(keeper, part, address)
        except MatteError:
            download.discard(part)
            raise
        kept = _store(keeper, tensors, address, digest)
        if not (about.sha256 or pinned(about)):
            pin_file(name).write_text(json.dumps({"address": address, "sha256": digest}), encoding="utf-8")
        download.discard(part)
    return kept


def checksum(file: Path) -> str:
    """SHA-256 in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pin_file(name: str) -> Path:
    """Where the checksum of a first download is kept."""
    return folder() / f"{_first(card(name))}.json"


def pinned(about: Card) -> str | None:
    """The checksum of the first download from the card's address, None before it."""
    try:
        pin = json.loads(pin_file(about.name).read_text(encoding="utf-8"))
        return str(pin["sha256"]) if pin["address"] == about.address else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _check_use(about: Card) -> None:
    if not about.parameters:
        raise UsageError(f"{about.name} needs no weights.")
    if about.included:
        raise UsageError(f"The weights of {about.name} come with mattecli; name others with --weights FILE.")


def _first(about: Card) -> str:
    """Of the networks that take its published file."""
    return next((name for name in names() if about.download and card(name).download == about.download), about.name)


def _keeper(about: Card) -> str:
    """Under whose name its weights are kept: its own if they are there, or if the first has weights of the user's."""
    first = _first(about)
    shared = _place(first)
    if _place(about.name).is_file() or (shared.is_file() and _read(shared).source != about.download):
        return about.name
    return first


def _place(name: str) -> Path:
    return folder() / f"{name}{SUFFIX}"


def _part(name: str) -> Path:
    return folder() / "downloads" / f"{name}.part"


def _read(path: Path) -> Kept:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            about, tensors = file.metadata() or {}, len(file.keys())
    except (SafetensorError, OSError):
        about, tensors = {}, 0
    source, sha256, date = (about.get(key, "") for key in ("source", "sha256", "date"))
    return Kept(path.name.removesuffix(SUFFIX), path, path.stat().st_size, tensors, source, sha256, date)


def _is_published(about: Card, weights: Path) -> bool:
    if not weights.is_file():
        return False
    kept = entry(about.name)
    if kept and weights.samefile(kept.path):
        return True
    known = {about.sha256, pinned(about), kept.sha256 if kept else None} - {None, ""}
    return bool(known) and checksum(weights) in known


def _translate(name: str, file: Path, source: str) -> dict[str, Tensor]:
    """What `load` would give the network, under its own keys."""
    from mattecli.zoo import checkpoints

    return checkpoints.load(name, file, source).state_dict()


def _store(name: str, tensors: dict[str, Tensor], source: str, digest: str) -> Kept:
    from mattecli.zoo import checkpoints

    date = datetime.now(UTC).isoformat(timespec="seconds")
    checkpoints.save(_place(name), tensors, {"network": name, "source": source, "sha256": digest, "date": date})
    return _read(_place(name))


def _compare(about: Card, digest: str) -> None:
    if about.sha256 and digest != about.sha256:
        raise InputError(
            f"{about.address} gave another file than the card tells (sha256 {digest}, not {about.sha256}); "
            "it was not kept."
        )
    first = None if about.sha256 else pinned(about)
    if first and digest != first:
        raise InputError(
            f"{about.address} gave another file than at the first download (sha256 {digest}, not {first}); it was not "
            f"kept: remove {pin_file(about.name)} if its publisher has replaced it."
        )
