"""Files written whole or not at all: beside their goal first, and renamed when nothing is missing."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mattecli.errors import InputError, reason

LONGEST = 50
"""Characters of the goal's name that its part has."""
PART = re.compile(r"\.(.+)\.mattecli-[0-9a-f]{8}(\..*)?")
"""Names of parts."""


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
    part = Part(path, ".part")
    try:
        yield part.path
        part.become(path)
    except BaseException:
        part.remove()
        raise


class Part:
    """A hidden file (or, with `folder`, a folder) beside `goal`, nobody else's, whose name ends with `suffix`.

    Missing folders are made. What processes that were killed left of the same goal is removed: a lock, which goes with
    its process, tells what is still being written. Where there are no locks it stays. Raises InputError where the
    goal's folder is none, else OSError as the system gave it.
    """

    def __init__(self, goal: Path, suffix: str, *, folder: bool = False) -> None:
        if goal.parent.exists() and not goal.parent.is_dir():
            raise InputError(f"{goal} can't be written: {goal.parent} is no folder.")
        goal.parent.mkdir(parents=True, exist_ok=True)
        name = goal.name[:LONGEST]
        for left in _left(goal.parent.absolute()).pop(name, []):
            with suppress(BlockingIOError):
                if (lock := locked(left)) is not None:
                    _remove(left)
                    os.close(lock)
        self.path = goal.with_name(f".{name}.mattecli-{secrets.token_hex(4)}{suffix}").absolute()
        if folder:
            self.path.mkdir()
        else:
            self.path.touch()
        self._lock = locked(self.path)

    def become(self, goal: Path) -> None:
        """Takes the goal's name."""
        self.path.replace(goal)
        self._unlock()

    def remove(self) -> None:
        """Leaves nothing that has not got the goal's name."""
        _remove(self.path)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def is_stream(path: Path) -> bool:
    """Whether `path` is there and neither a folder nor a regular file, so that nothing can take its place."""
    return path.exists() and not path.is_dir() and not stat.S_ISREG(path.stat().st_mode)


def unwritable(path: Path, error: Exception) -> InputError:
    """What the user is told where the system refuses."""
    return InputError(f"{path} can't be written: {reason(error)}.")


@functools.cache
def _left(folder: Path) -> dict[str, list[Path]]:
    """The parts that were in `folder` when this process first wrote there, by the beginning of their goals' names."""
    found: dict[str, list[Path]] = {}
    with suppress(OSError), os.scandir(folder) as entries:  # some folders are only for writing
        for entry in entries:
            if named := PART.fullmatch(entry.name):
                found.setdefault(named[1], []).append(Path(entry.path))
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


if sys.platform == "win32":

    def locked(path: Path) -> int | None:
        return None  # a file could not take its goal's name while it is

else:

    def locked(path: Path) -> int | None:
        """A descriptor to be closed, None where there are no locks. Raises BlockingIOError where another has it."""
        import fcntl

        try:
            descriptor = _opened(path)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise
            return None
        return descriptor

    def _opened(path: Path) -> int:
        flags = os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(path, os.O_RDWR | flags)  # NFS locks no file that is open for reading alone
        except IsADirectoryError:
            return os.open(path, os.O_RDONLY | flags)
