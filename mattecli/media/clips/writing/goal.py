"""Where a file is written so that its name appears only when it is whole."""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mattecli import atomic
from mattecli.errors import InputError


class Goal:
    """A hidden file (or, with `folder`, a folder) beside `path`, which takes its name by `finish`. What never does
    is removed, at the latest when the program ends, or where it is killed when the same is written again.

    None is stdout; it and what is no regular file (a pipe, /dev/null) are streams, written to directly. Missing
    folders are made. Raises InputError where nothing can be written there; later errors of the system come as they
    are, as OSError.
    """

    def __init__(self, path: Path | None, *, folder: bool = False) -> None:
        self.path = path
        self.name = "stdout" if path is None else str(path)
        self._part: atomic.Part | None = None
        self._stream: BinaryIO | None = None
        try:
            if path is None:
                self._stream = sys.stdout.buffer
            elif atomic.is_stream(path):
                self._stream = path.open("wb")
            else:
                self._part = _part(path, folder=folder)
                self._last_resort = weakref.finalize(self, self._part.remove)
        except OSError as error:
            raise atomic.unwritable(Path(self.name), error) from error

    @property
    def beside(self) -> Path | None:
        """What is hidden; None for a stream."""
        return self._part.path if self._part else None

    @property
    def target(self) -> str | Stream:
        """What `av.open` writes to."""
        return Stream(self._stream) if self._stream else str(self.beside)

    @property
    def streamed(self) -> bool:
        return self._stream is not None

    def finish(self) -> None:
        """Gives the file its name; flushes a stream."""
        if self._stream:
            self._stream.flush()
            if self.path:
                self._stream.close()
        if self._part and self.path:
            self._part.become(self.path)
            self._last_resort.detach()

    def discard(self) -> None:
        """Removes what was written; nothing happens where it has been finished."""
        if self._stream and self.path:
            with suppress(OSError):
                self._stream.close()
        if self._part:
            self._part.remove()


class Stream:
    """What can only be written, one byte after the other, so that no muxer tries to go back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """At once, since a player waits for it."""
        count = self._stream.write(data)
        self._stream.flush()
        return count


def _part(path: Path, *, folder: bool) -> atomic.Part:
    if path.is_dir() and not folder:
        raise InputError(f"{path} can't be written: it is a folder.")
    # the suffix stays; an absolute name can't be taken for a protocol ("12:30.mp4")
    return atomic.Part(path, path.suffix, folder=folder)
