"""Threads for several items at a time, in their order and in flat memory; filters and files leave Python free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from mattecli.processors import processors

A = TypeVar("A")
B = TypeVar("B")

MOST = 8
"""Threads; each measures planes of full size, which take memory."""


class Map(Protocol):
    """`map`, or something that works ahead."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


class Workers:
    """As many threads as there are processors, in a `with`: left by Ctrl-C, only what is under way is waited for.

    >>> with Workers() as workers:
    ...     for score in workers.map(measure, frames):
    ...         ...
    """

    def __init__(self) -> None:
        self._count = min(MOST, processors())
        self._pool = ThreadPoolExecutor(self._count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]:
        """The results in the order of `items`, which are taken in the caller's thread, a few ahead.

        A map may go over the results of another one. Raises what `function` raises, when it is that item's turn.
        """
        waiting = deque[Future[Any]]()
        try:
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) > self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
