"""Files written whole or not at all: beside their goal first, and renamed when nothing is missing."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mattecli.errors import InputError, reason


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` as `replacing` does. Raises InputError where the system refuses, as on a full disk."""
    try:
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise unwritable(path, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden file beside `path` to write to, which takes its name when the block ends. Missing folders are made.

    Whatever interrupts the block (Ctrl-C too), the goal is as it was and nothing is left beside it. A goal that is no
    regular file (a pipe, /dev/null) is given itself. Errors of the system come as they are, as OSError; raises
    InputError where the goal's folder is none.
    """
    if is_stream(path):
        yield path
        return
    part = beside(path, ".part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def beside(path: Path, suffix: str) -> Path:
    """A hidden name beside `path` that ends with `suffix`, nobody else's. Missing folders are made."""
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"{path} can't be written: {path.parent} is no folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{suffix}")


def is_stream(path: Path) -> bool:
    """Whether `path` is there and neither a folder nor a regular file, so that nothing can take its place."""
    return path.exists() and not path.is_dir() and not stat.S_ISREG(path.stat().st_mode)


def unwritable(path: Path, error: Exception) -> InputError:
    """What the user is told where the system refuses."""
    return InputError(f"{path} can't be written: {reason(error)}.")
