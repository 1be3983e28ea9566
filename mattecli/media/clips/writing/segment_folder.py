"""The folder where the segments of a long clip gather, for one run at a time, and for the next to go on with."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from mattecli import atomic
from mattecli.errors import UsageError

NAME = re.compile(r"\d{6}_(-?\d+)_(\d+)_(\d+)")


@dataclass(frozen=True)
class Segment:
    """A file, as its name tells it: `last` is the stamp of its last frame and `length` how long that stays, in ticks of
    the clip; `size` in bytes.
    """

    path: Path
    last: int
    length: int
    size: int

    @property
    def end(self) -> int:
        return self.last + self.length

    @property
    def is_whole(self) -> bool:
        return self.path.stat().st_size == self.size


class SegmentFolder:
    """Holds whole `segments`, in their order, and what is being written. Makes the folder where there is none.

    Of an earlier run those stay that are of the size they were written with, up to the first that isn't (the power
    failed). Raises UsageError where they were made with other `settings`, or while another run has the folder, and
    InputError where nothing can be written.
    """

    def __init__(self, path: Path, suffix: str, settings: str) -> None:
        self.path, self._suffix = path, suffix
        try:
            path.mkdir(parents=True, exist_ok=True)
            note = path / "settings.txt"
            note.touch()
            self._lock = atomic.locked(note)
            with ExitStack() as unused:
                unused.callback(self.leave, remove=False)
                self.segments = self._whole(note, os.fsencode(settings))
                unused.pop_all()
        except BlockingIOError:
            raise UsageError(f"Another run is at work in {path}; let it end, or choose another output.") from None
        except OSError as error:
            raise atomic.unwritable(path, error) from error

    def add(self, file: Path, last: int, length: int) -> None:
        """Takes a finished file."""
        size = file.stat().st_size
        name = f"{len(self.segments):06}_{last}_{length}_{size}{self._suffix}"
        self.segments.append(Segment(file.replace(self.path / name), last, length, size))

    def leave(self, *, remove: bool) -> None:
        """For another run to have, or no more."""
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _whole(self, note: Path, settings: bytes) -> list[Segment]:
        found = self._found()
        whole = list(takewhile(lambda segment: segment.is_whole, found))
        if not whole:
            note.write_bytes(settings)
        elif note.read_bytes() != settings:
            raise UsageError(
                f"{self.path} holds segments of another clip or of other settings; remove it to start anew."
            )
        torn = {*self.path.iterdir()} - {note, *(segment.path for segment in whole)}
        for path in self.path.glob(f".*{self._suffix}") if whole == found else torn:
            path.unlink()
        return whole

    def _found(self) -> list[Segment]:
        paths = sorted(self.path.glob(f"*{self._suffix}"))
        named = ((path, NAME.fullmatch(path.stem)) for path in paths)
        return [Segment(path, *map(int, match.groups())) for path, match in named if match]
