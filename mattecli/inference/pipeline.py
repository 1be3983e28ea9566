"""Stages in threads, one behind the other, with short queues between them.

Memory stays flat however many items pass, an error in one stage ends them all, and Ctrl-C ends the work between two
items of the last stage, which can then finish what it has, unless another Ctrl-C gives it up.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mattecli.inference.belt import ROOM, Belt, Merge, Stopped

Stage = Callable[[Iterator[Any]], Generator[Any, None, None]]
"""From the items of the stage before (none for the first) to its own; those of the last are only counted."""
_END = object()

INTERVAL = 0.1
"""Seconds between two reports."""
WINDOW, FEWEST = 1.0, 5
"""Seconds, and items, over which speed and busy shares are taken at least; `FARTHEST` reports back at most."""
FARTHEST = 600
PATIENCE = 3.0
"""Seconds that stages may take to end after the last one has; one that waits for a silent source never would."""
GRACE = 1.0
"""Seconds after Ctrl-C in which further ones mean the same."""


@dataclass(frozen=True)
class Progress:
    """Where the work stands after `seconds`. `fps`, and `busy`: the share of time a stage did not wait, are of the
    last second, or the last few items. `total` and `left` (seconds) are None where the number of items is not known.
    `ending`: after Ctrl-C the last stage finishes what it has.
    """

    frames: int
    total: int | None
    seconds: float
    fps: float
    left: float | None
    busy: dict[str, float]
    ending: bool = False

    @property
    def bottleneck(self) -> str:
        """The stage that waits least."""
        return max(self.busy, key=lambda name: self.busy[name])


@dataclass(frozen=True)
class Work:
    """What was done: items, wall seconds, and the seconds that each stage did not wait.

    `interrupted`: there was more to do; `given_up`: the last stage got `Stopped`, what it made is thrown away.
    """

    frames: int
    seconds: float
    busy: dict[str, float]
    interrupted: bool = False
    given_up: bool = False


def run(
    stages: Mapping[str, Stage],
    *,
    total: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    discard: bool = False,
    merge: Merge | None = None,
) -> Work:
    """Run `stages` until the last is through; `report` is called about ten times a second and at the end.

    An exception in a stage raises `Stopped` in the others, then goes on here. At Ctrl-C, or a KeyboardInterrupt of
    `report`, the last stage sees the end of its items, with `discard` it gets `Stopped`; the work returned is
    `interrupted`, unless the last stage had all items already. Another Ctrl-C, `GRACE` seconds later or more, gives it
    `Stopped` too, and raises KeyboardInterrupt if it doesn't end soon. With `merge` the first stage never waits for
    room: its newest item and the one that comes become one.
    """
    line = _Line(stages, merge)
    watch = _Watch(line, total)
    with _ctrl_c() as pressed:
        try:
            with _noting(pressed):
                line.start()
                while not (line.over(INTERVAL) or pressed):
                    report(watch.look())
                if line.error is None and not pressed:
                    report(watch.look())
            if pressed and not line.over(0):
                line.stop(keep=not discard)
                with _noting(pressed):
                    report(replace(watch.look(), ending=not discard))
            ended = line.settle(pressed)
        except BaseException:
            line.stop()
            line.settle(pressed)
            raise
    if not ended:
        raise KeyboardInterrupt("interrupted, and given up before the output was whole.")
    if line.error is not None:
        raise line.error
    return Work(line.done, watch.seconds, line.busy(), bool(pressed) and not line.exhausted, line.given_up)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[list[float]]:
    """When it was pressed. Meanwhile it raises nothing, so that no step is left half done; another program's own
    handler, and threads that no signal comes to, are left alone.
    """
    pressed: list[float] = []
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield pressed
        return
    signal.signal(signal.SIGINT, lambda *_: pressed.append(time.perf_counter()))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


@contextlib.contextmanager
def _noting(pressed: list[float]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        pressed.append(time.perf_counter())


class _Line:
    """The stages' threads and the belts between them."""

    def __init__(self, stages: Mapping[str, Stage], merge: Merge | None) -> None:
        self.done = 0
        self.error: BaseException | None = None
        room = 1 if merge else ROOM  # what waits is late
        self._belts = [Belt(None if index else merge, room) for index in range(len(stages) - 1)]
        ends = zip([None, *self._belts], [*self._belts, None], strict=True)
        self._workers = [
            _Worker(name, stage, source, goal, self)
            for (name, stage), (source, goal) in zip(stages.items(), ends, strict=True)
        ]

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def over(self, wait: float) -> bool:
        """Whether the last stage is through, after at most `wait` seconds."""
        return self._workers[-1].through.wait(wait)

    @property
    def given_up(self) -> bool:
        return self._workers[-1].stopped

    @property
    def exhausted(self) -> bool:
        """Whether the last stage had all there was."""
        return all(belt.exhausted for belt in self._belts[-1:])

    def settle(self, pressed: list[float]) -> bool:
        """Wait for the last stage, and a moment for the others. Where a second of `pressed` gives up what the last one
        makes, for that too only a moment: False if it hasn't ended then.
        """
        started = [worker for worker in self._workers if worker.ident]
        while started and not started[-1].through.wait(INTERVAL):
            if pressed and pressed[-1] - pressed[0] >= GRACE:
                self.stop()
                break
        deadline = time.perf_counter() + PATIENCE
        for worker in reversed(started):
            if worker.through.wait(max(0.0, deadline - time.perf_counter())):
                worker.join()
        return all(worker.through.is_set() for worker in started[-1:])

    def stop(self, keep: bool = False) -> None:
        """End all stages; with `keep` the last one in peace."""
        for belt in self._belts:
            belt.stop(keep and belt is self._belts[-1])

    def fail(self, error: BaseException) -> None:
        """The first error counts; what it brings about in other stages does not."""
        self.error = self.error or error
        self.stop()

    def busy(self) -> dict[str, float]:
        return {worker.name: worker.busy() for worker in self._workers}


class _Worker(threading.Thread):
    """One stage, from its belt to the next.

    `through` is set when it has ended. Waiting by `join` would not do: interrupted, it takes a thread for ended that is
    not (CPython 3.10 to 3.12).
    """

    def __init__(self, name: str, stage: Stage, source: Belt | None, goal: Belt | None, line: _Line) -> None:
        super().__init__(name=name, daemon=True)
        self._stage, self._source, self._goal, self._line = stage, source, goal, line
        self.through, self.stopped = threading.Event(), False
        self._waited = 0.0
        self._began: float | None = None
        self._ended: float | None = None
        self._waits_since: float | None = None

    def busy(self) -> float:
        """Seconds so far in which it waited for no other stage."""
        if self._began is None:
            return 0.0
        now, since = self._ended or time.perf_counter(), self._waits_since
        return now - self._began - self._waited - (0.0 if since is None else now - since)

    def run(self) -> None:
        self._began = time.perf_counter()
        try:
            with contextlib.closing(self._stage(self._incoming())) as items:
                for item in items:
                    self._give(item)
            if self._goal:
                self._goal.end()
        except Stopped:
            self.stopped = True
        except BaseException as error:
            self._line.fail(error)
        finally:
            self._ended = time.perf_counter()
            self.through.set()

    def _incoming(self) -> Iterator[Any]:
        items = iter(self._source or ())
        while True:
            with self._waiting():
                item = next(items, _END)
            if item is _END:
                return
            yield item

    def _give(self, item: Any) -> None:
        if self._goal is None:
            self._line.done += 1
            return
        with self._waiting():
            self._goal.put(item)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        since = self._waits_since = time.perf_counter()
        try:
            yield
        finally:
            self._waits_since = None
            self._waited += time.perf_counter() - since


class _Watch:
    """Speed and busy shares of the last `WINDOW` seconds and `FEWEST` items."""

    def __init__(self, line: _Line, total: int | None) -> None:
        self._line, self._total = line, total
        self._started = time.perf_counter()
        self._first: tuple[float, int] | None = None
        self._looks = deque([(self._started, 0, dict.fromkeys(line.busy(), 0.0))], FARTHEST)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def look(self) -> Progress:
        now, done, busy = time.perf_counter(), self._line.done, self._line.busy()
        while len(self._looks) > 1 and self._looks[1][0] <= now - WINDOW and self._looks[1][1] <= done - FEWEST:
            self._looks.popleft()
        before, had, spent = self._looks[0]
        self._looks.append((now, done, busy))
        span = max(now - before, 1e-6)
        shares = {name: min(1.0, max(0.0, (busy[name] - spent[name]) / span)) for name in busy}
        return Progress(done, self._total, now - self._started, (done - had) / span, self._left(now, done), shares)

    def _left(self, now: float, done: int) -> float | None:
        """From the speed since the first item, so that what comes before it (compiling, say) does not count."""
        if self._first is None and done:
            self._first = now, done
        if self._total is None or self._first is None or done == self._first[1]:
            return None
        since, had = self._first
        return max(0.0, (self._total - done) * (now - since) / (done - had))
