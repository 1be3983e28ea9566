"""A live clip for a player: each frame leaves when it comes."""

from __future__ import annotations

import io
from types import SimpleNamespace

import av
import pytest

from mattecli.media.clips.planes.frame import Colour, Format
from mattecli.media.clips.writing import goal
from mattecli.media.clips.writing.sink import Target, open_sink

FORMAT = Format(64, 96, Colour())


class Pipe(io.RawIOBase):
    """Keeps what was written."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)

    def frames(self):
        with av.open(io.BytesIO(self.data)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1"])
def test_no_frame_of_a_live_clip_waits(monkeypatch, origin, frames, codec):
    pipe, clip = Pipe(), origin()
    clip.live = True
    monkeypatch.setattr(goal.sys, "stdout", SimpleNamespace(buffer=io.BufferedWriter(pipe)))
    sink = open_sink(Target(None, codec), FORMAT, clip)
    for count, frame in enumerate(frames(FORMAT, range(0, 240, 20)), 1):
        sink.write(frame)
        assert count < 2 or pipe.frames() >= count - 1, count
    sink.close()
    assert pipe.frames() == 12


def test_sound_that_a_pipe_cannot_hold_is_transcoded(monkeypatch, input_clip, rewrite, reread):
    path, pipe = input_clip("a.ts", sound="aac"), Pipe()
    monkeypatch.setattr(goal.sys, "stdout", SimpleNamespace(buffer=io.BufferedWriter(pipe)))
    assert any("transcoded to FLAC" in note for note in rewrite(path, Target(None)).notes)
    sound = reread(io.BytesIO(pipe.data)).container.streams.audio[0]
    assert sound.codec_context.name == "flac"
