"""Interlaced pictures, whose two fields show two moments, made to show one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame

Timed = tuple[VideoFrame, int]


class Deinterlacer:
    """Keeps the first field of each picture that is flagged as interlaced and makes the other anew (FFmpeg's bwdif).

    The others stay as they are, and so do all times: no picture more, none less. `count`: of the flagged ones.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, pictures: Iterable[Timed]) -> Iterator[Timed]:
        """A picture late, from the first flagged one on."""
        graph, kind = None, None
        waiting: deque[Timed] = deque()
        for picture, time in pictures:
            self.count += picture.interlaced_frame
            if graph and kind != _kind(picture):
                yield from _push(graph, None, waiting)
                graph = None
            if graph is None and not picture.interlaced_frame:
                yield picture, time
                continue
            if graph is None:
                graph, kind = _graph(picture), _kind(picture)
            waiting.append((picture, time))
            yield from _push(graph, picture, waiting)
        if graph:
            yield from _push(graph, None, waiting)


def _push(graph: Graph, picture: VideoFrame | None, waiting: deque[Timed]) -> Iterator[Timed]:
    """Pictures that are ready; with None all that wait."""
    graph.vpush(picture)
    while waiting:
        try:
            made = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        own, time = waiting.popleft()
        made.duration = own.duration  # bwdif counts in half ticks
        made.colorspace, made.color_range = own.colorspace, own.color_range  # lost where it takes another pixel format
        yield made, time


def _graph(picture: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _kind(picture: VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
