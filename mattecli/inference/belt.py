"""What carries items from one stage of a pipeline to the next: a short queue that can be ended, cut or stopped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

Merge = Callable[[Any, Any], Any]

ROOM = 3
"""Items that may wait between two stages."""


class Stopped(Exception):  # noqa: N818 (a way out, no error)
    """Raised in a stage, where it takes an item, when another one failed or what is made shall be thrown away."""


class Belt:
    """A queue with little room: `put` waits for room, iteration for items, until one of them shall end."""

    def __init__(self, merge: Merge | None = None, room: int = ROOM) -> None:
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._merge, self._room = merge, room
        self._ended = self._cut = self._stopped = False
        self.exhausted = False
        """Whether all that came was taken, and no more comes."""

    def put(self, item: Any) -> None:
        with self._changed:
            if self._merge and len(self._items) >= self._room:
                item = self._merge(self._items.pop(), item)
            self._changed.wait_for(lambda: len(self._items) < self._room or self._cut or self._stopped)
            if self._cut or self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._cut or self._stopped)
                if self._stopped:
                    raise Stopped
                if self._cut or not self._items:
                    self.exhausted = not self._cut
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def end(self) -> None:
        """No more items come; those that wait may still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self, keep: bool) -> None:
        """No item may be given any more; who takes gets `Stopped`, or with `keep`, if it never was without, the end."""
        with self._changed:
            self._items.clear()
            self._cut, self._stopped = True, self._stopped or not keep
            self._changed.notify_all()
