"""Sound, subtitles, attachments, chapters and metadata on their way through a sink."""

from __future__ import annotations

import hashlib
import io
import itertools
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from mattecli.media.clips.planes.frame import Format
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.writing import passing
from mattecli.media.clips.writing.sink import Target, open_sink
from tests.media.clips.making import make_clip


@pytest.mark.parametrize(
    ("source", "goal", "sound"),
    [
        ("a.mp4", "b.mp4", "aac"),
        ("a.mp4", "b.mov", "aac"),
        ("a.mp4", "b.mkv", "aac"),
        ("a.mkv", "b.mp4", "aac"),
        ("a.mkv", "b.mkv", "libopus"),
        ("a.mkv", "b.mp4", "libopus"),
        ("a.mkv", "b.webm", "libopus"),
        ("a.webm", "b.mkv", "libopus"),
        ("a.mov", "b.mov", "pcm_s16le"),
        ("a.mov", "b.mkv", "pcm_s24le"),
        ("a.mkv", "b.mkv", "flac"),
        ("a.mkv", "b.mp4", "alac"),  # whose last packet has no length of its own there
        ("a.mp4", "b.mkv", "libmp3lame"),
        ("a.mkv", "b.mov", "libmp3lame"),
        ("a.ts", "b.mp4", "aac"),
        ("a.ts", "b.mkv", "aac"),
    ],
)
def test_sound_is_copied_where_it_fits(tmp_path, input_clip, rewrite, reread, source, goal, sound):
    path = input_clip(source, sound=sound)
    sink = rewrite(path, Target(tmp_path / goal))
    before, after = reread(path), reread(tmp_path / goal)
    assert sink.notes == []
    assert len(after.others[1]) == len(before.others[1])
    if source != "a.ts":  # whose packets lose their ADTS headers
        assert after.md5(1) == before.md5(1)
    assert [float(t) for t in after.times] == pytest.approx([float(t) for t in before.times], abs=0.00051)
    heard = [float(packet.pts * packet.time_base) for packet in after.others[1]]
    assert heard == pytest.approx([float(p.pts * p.time_base) for p in before.others[1]], abs=0.00051)
    language = before.container.streams[1].metadata.get("language")
    known = "ger" if goal == "b.mov" and language else language
    assert after.container.streams[1].metadata.get("language") == known


@pytest.mark.parametrize(("sound", "samples"), [("aac", 1024), ("alac", 4096)])
def test_an_mp4_says_how_many_samples_a_packet_has(tmp_path, input_clip, rewrite, reread, sound, samples):
    """Matroska counts milliseconds, which are no whole number of samples."""
    rewrite(input_clip("a.mkv", sound=sound), Target(tmp_path / "b.mp4"))
    packets = reread(tmp_path / "b.mp4").others[1]
    assert {packet.duration for packet in packets[3:-1]} == {samples}
    assert all(b.pts - a.pts == a.duration for a, b in itertools.pairwise(packets))


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_channels_that_have_no_names_get_the_usual_ones(tmp_path, input_clip, rewrite, reread, layout):
    """Matroska only counts those of PCM, and MP4 holds none without a name."""
    path = input_clip("a.mkv", sound="pcm_s16le", layout=layout)
    sink = rewrite(path, Target(tmp_path / "b.mp4"))
    before, after = reread(path), reread(tmp_path / "b.mp4")
    assert sink.notes == [] and after.md5(1) == before.md5(1)
    assert after.container.streams.audio[0].codec_context.layout.name == layout


@pytest.mark.parametrize(
    ("source", "sound", "goal", "becomes"),
    [
        ("a.mp4", "aac", "b.webm", "Opus"),
        ("a.mkv", "libopus", "b.mov", "PCM"),
        ("a.mkv", "flac", "b.mov", "PCM"),
        ("a.mov", "pcm_s16le", "b.webm", "Opus"),
        ("a.avi", "pcm_u8", "b.mp4", "AAC"),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_sound_is_transcoded_where_it_must(tmp_path, input_clip, rewrite, reread, source, sound, goal, becomes, layout):
    path = input_clip(source, sound=sound, layout=layout)
    sink = rewrite(path, Target(tmp_path / goal))
    assert f"transcoded to {becomes}" in sink.notes[0]
    after = reread(tmp_path / goal)
    stream = after.container.streams.audio[0]
    assert stream.codec_context.codec.canonical_name == {"PCM": "pcm_s24le"}.get(becomes, becomes.lower())
    decoder = stream.codec_context
    samples = [f.to_ndarray() for p in after.others[1] for f in decoder.decode(p)]
    rate = decoder.sample_rate
    heard = sum(s.shape[-1] // (1 if s.shape[0] > 1 else decoder.layout.nb_channels) for s in samples) / rate
    assert heard == pytest.approx(0.5, abs=0.06)
    assert max(np.abs(s.astype(np.float64)).max() for s in samples) > 0.3
    start = after.others[1][0].pts * after.others[1][0].time_base
    assert abs(start) <= 0.051


def test_sound_can_be_left_out(tmp_path, input_clip, rewrite, reread):
    path = input_clip("a.mp4", sound="aac", text="mov_text")
    rewrite(path, Target(tmp_path / "b.mp4", audio="none"))
    assert [s.type for s in reread(tmp_path / "b.mp4").container.streams] == ["video", "subtitle"]


@pytest.mark.parametrize(
    ("source", "text", "goal", "codec", "note"),
    [
        ("a.mp4", "mov_text", "b.mov", "mov_text", ""),
        ("a.mkv", "srt", "b.mkv", "subrip", ""),
        ("a.mkv", "ass", "b.mkv", "ass", ""),
        ("a.mkv", "srt", "b.mp4", "mov_text", "transcoded to mov_text"),
        ("a.mkv", "ass", "b.mp4", "mov_text", "transcoded to mov_text"),
        ("a.mp4", "mov_text", "b.mkv", "subrip", "transcoded to SubRip"),
        ("a.mkv", "srt", "b.webm", "webvtt", "transcoded to WebVTT"),
        ("a.webm", "webvtt", "b.mp4", "mov_text", "transcoded to mov_text"),
    ],
)
def test_subtitles_pass(tmp_path, input_clip, rewrite, reread, source, text, goal, codec, note):
    sink = rewrite(input_clip(source, text=text), Target(tmp_path / goal))
    after = reread(tmp_path / goal)
    stream = after.container.streams.subtitles[0]
    assert stream.codec_context.codec.canonical_name == codec
    assert stream.metadata["language"] == "fra"
    assert len(sink.notes) == bool(note) and (not note or note in sink.notes[0])
    said = [(p.pts * p.time_base, p.duration * p.time_base, bytes(p)) for p in after.others[1] if b"Line" in bytes(p)]
    assert [float(start) for start, _, _ in said] == pytest.approx([0, 0.25], abs=0.001)
    assert [float(length) for _, length, _ in said] == pytest.approx([0.2, 0.2], abs=0.001)
    assert b"Line 6" in said[1][2]


def test_subtitles_of_a_movie_stay_what_they_are(tmp_path, input_clip, rewrite, reread):
    """Those that follow each other at once have an empty one between them, which the muxer writes too."""
    rewrite(input_clip("a.mp4", text="mov_text", cues=((0, 250), (250, 480))), Target(tmp_path / "b.mp4"))
    before, after = (
        [(p.pts, p.duration, bytes(p)) for p in reread(tmp_path / name).others[1]] for name in ("a.mp4", "b.mp4")
    )
    assert after == before and len(after) > 2


def test_subtitles_that_nothing_can_hold_are_left_out(tmp_path, origin):
    """Pictures of words, as on DVDs."""
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("libx264", rate=24, width=96, height=64)
        out.add_stream("dvdsub")
        out.mux(video.encode(av.VideoFrame(96, 64)))
        out.mux(video.encode(None))
    with av.open(str(tmp_path / "a.mkv")) as source:
        sink = open_sink(Target(tmp_path / "b.webm"), Format(64, 96), origin(others=source.streams.subtitles))
        assert "Subtitles (dvd_subtitle) were left out" in sink.notes[0]
        sink.abort()


def test_attachments_stay_in_matroska_and_are_named_elsewhere(tmp_path, input_clip, rewrite, reread):
    path = input_clip("a.mkv", font=b"not a font" * 10)
    rewrite(path, Target(tmp_path / "b.mkv"))
    attached = reread(tmp_path / "b.mkv").container.streams[1]
    assert (attached.type, attached.data) == ("attachment", b"not a font" * 10)
    assert attached.metadata["filename"] == "font.ttf"
    sink = rewrite(path, Target(tmp_path / "b.mp4"))
    assert "attachment" in sink.notes[0] and "left out" in sink.notes[0]


@pytest.mark.parametrize("goal", ["b.mp4", "b.mov", "b.mkv", "b.webm"])
def test_title_creation_time_and_chapters_pass(tmp_path, input_clip, rewrite, reread, goal):
    half = {"id": 1, "start": 0, "end": 250, "time_base": Fraction(1, 1000), "metadata": {"title": "First"}}
    rest = half | {"id": 2, "start": 250, "end": 500, "metadata": {"title": "Second"}}
    rewrite(input_clip("a.mp4", chapters=[half, rest]), Target(tmp_path / goal))
    after = reread(tmp_path / goal).container
    assert after.metadata.get("title", after.metadata.get("TITLE")) == "A title"
    found = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in after.chapters()]
    assert found == [(0, Fraction(1, 4), "First"), (Fraction(1, 4), Fraction(1, 2), "Second")]
    made = {key.lower(): value for key, value in after.metadata.items()}.get("creation_time", "")
    assert made.startswith("2020-02-02T10:00:00")


APPLE = "com.apple.quicktime."


@pytest.mark.parametrize("goal", ["b.mov", "b.mp4", "b.mkv"])
@pytest.mark.parametrize("parts", [False, True])
def test_what_a_phone_says_passes(tmp_path, input_clip, rewrite, reread, goal, parts):
    """Where it was, and when, and by what; plain tags beside it for players of either kind; the name of a track."""
    phone = {"make": "Apple", "model": "iPhone", "creationdate": "2024-05-01T10:00:00+0200"}
    said = {APPLE + name: tag for name, tag in phone.items()} | {APPLE + "location.ISO6709": "+48.1-005.2+010/"}
    path, plain = tmp_path / "phone.mov", {"title": "A title", "artist": "Somebody", "comment": "Nothing"}
    flags = {"movflags": "use_metadata_tags"}
    old, new = str(input_clip("a.mov", sound="aac")), str(path)
    with av.open(old) as first, av.open(new, "w", container_options=flags) as second:
        second.metadata.update(said | plain | {"creation_time": first.metadata["creation_time"]})
        streams = [second.add_stream_from_template(stream) for stream in first.streams]
        streams[1].metadata["title"] = "Boom"
        for packet in first.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                second.mux(packet)
    sink = rewrite(path, Target(tmp_path / goal), **({"segments": tmp_path / "parts"} if parts else {}))
    assert [note for note in sink.notes if "segments" not in note] == []
    after = reread(tmp_path / goal).container
    found = {key.lower(): tag for key, tag in after.metadata.items()}
    wanted = said | plain
    if goal != "b.mkv":
        wanted |= {APPLE + name: tag for name, tag in plain.items()}
    assert {key: found.get(key.lower()) for key in wanted} == wanted
    assert found["creation_time"].startswith("2020-02-02T10:00:00")
    track = after.streams[1].metadata
    assert track.get("title", track.get("name")) == "Boom"


@pytest.mark.parametrize("goal", ["b.mov", "b.mp4"])
def test_plain_tags_stay_where_all_players_look(tmp_path, input_clip, rewrite, goal):
    rewrite(input_clip("a.mp4"), Target(tmp_path / goal))
    data = (tmp_path / goal).read_bytes()
    assert b"\xa9nam" in data and b"mdta" not in data


@pytest.mark.parametrize("goal", ["b.mov", "b.mp4", "b.mkv"])
def test_a_time_code_stays(tmp_path, input_clip, rewrite, reread, goal):
    path = input_clip("a.mov", sound="aac", timecode="01:02:03:04")
    sink = rewrite(path, Target(tmp_path / goal))
    assert sink.notes == []
    after = reread(tmp_path / goal)
    found = {key.lower(): value for key, value in after.video.metadata.items()} | after.container.metadata
    assert found["timecode"] == "01:02:03:04"
    assert [stream.type for stream in after.container.streams] == ["video", "audio", "data"][: 2 + (goal != "b.mkv")]


@pytest.mark.parametrize("goal", ["b.mov", "b.mp4", "b.mkv"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_part_begins_with_the_time_code_of_its_first_frame(tmp_path, reread, goal, parts):
    path = tmp_path / "a.mov"
    make_clip(path, timecode="01:02:03:23")
    with open_clip(str(path), start=0.08) as clip:
        sink = open_sink(Target(tmp_path / goal), clip.format, clip, segments=tmp_path / "parts" if parts else None)
        for frame in clip:
            sink.write(frame)
        sink.close()
    after = reread(tmp_path / goal)
    found = {key.lower(): value for key, value in after.video.metadata.items()} | after.container.metadata
    assert found["timecode"] == "01:02:04:00"


@pytest.mark.parametrize("container", [".mkv", ".mp4"])
def test_sound_goes_to_stdout_too(input_clip, rewrite, reread, monkeypatch, container):
    path = input_clip("a.mp4", sound="aac")
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"buffer": buffer}))
    rewrite(path, Target(None, container=container))
    before, after = reread(path), reread(io.BytesIO(buffer.getvalue()))
    assert after.md5(1) == before.md5(1)
    assert [float(t) for t in after.times] == pytest.approx([float(t) for t in before.times], abs=0.00051)


def test_a_broadcast_that_changes_its_channels_stays_as_it_began(tmp_path, input_clip, origin, frames, reread):
    parts = [input_clip(f"{layout}.ts", sound="aac", layout=layout).read_bytes() for layout in ("stereo", "5.1")]
    format = Format(64, 96)
    with av.open(io.BytesIO(b"".join(parts))) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        sink = open_sink(Target(tmp_path / "b.webm"), format, origin(others=[container.streams.audio[0]]))
        sink.write(replace(frames(format, (0,))[0], passing=packets))
        sink.close()
    after = reread(tmp_path / "b.webm")
    decoder = after.container.streams.audio[0].codec_context
    heard = [frame for packet in after.others[1] for frame in decoder.decode(packet)]
    assert {frame.layout.nb_channels for frame in heard} == {2}
    assert sum(frame.samples for frame in heard) / 48000 > 0.9


def test_where_sound_is_missing_there_is_silence(tmp_path, input_clip, origin, frames, reread):
    """PCM in .mov has no gaps: what follows one would come too early."""
    format = Format(64, 96)
    with av.open(str(input_clip("a.mkv", sound="libopus", layout="mono"))) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        sink = open_sink(Target(tmp_path / "b.mov"), format, origin(others=[container.streams.audio[0]]))
        sink.write(replace(frames(format, (0,))[0], passing=packets[:8] + packets[16:]))
        sink.close()
    after = reread(tmp_path / "b.mov")
    decoder = after.container.streams.audio[0].codec_context
    heard = np.concatenate([f.to_ndarray()[0] for p in after.others[1] for f in decoder.decode(p)]) / 2**31
    assert len(heard) == pytest.approx(24000, abs=960)
    assert not heard[7800:14800].any() and np.abs(heard[15800:20000]).max() > 0.3


def test_sound_whose_stamps_stand_still_is_moved_on(tmp_path, input_clip, origin, frames, reread):
    format = Format(64, 96)
    with av.open(str(input_clip("a.mkv", sound="flac"))) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        packets[2].pts = packets[2].dts = packets[1].dts
        sink = open_sink(Target(tmp_path / "b.mp4"), format, origin(others=[container.streams.audio[0]]))
        sink.write(replace(frames(format, (0,))[0], passing=packets))
        sink.close()
    assert reread(tmp_path / "b.mp4").md5(1) == hashlib.md5(b"".join(map(bytes, packets))).hexdigest()


def test_transcoded_sound_keeps_its_start_its_gaps_and_its_end(tmp_path, input_clip, origin, frames, reread):
    """Half a second of it, from 0.3 s on, with as long a gap in its middle."""
    with av.open(str(input_clip("a.mkv", sound="pcm_s16le"))) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        for packet in packets:
            packet.pts = packet.dts = packet.pts + (300 if packet.pts < 240 else 800)
        sink = open_sink(Target(tmp_path / "b.webm"), Format(64, 96), origin(others=[container.streams.audio[0]]))
        sink.write(replace(frames(Format(64, 96), (0,))[0], passing=packets))
        sink.close()
    times = [float(packet.pts * packet.time_base) for packet in reread(tmp_path / "b.webm").others[1]]
    assert times[0] == pytest.approx(0.3, abs=0.01) and 1.28 <= times[-1] < 1.32


def copied(old, new, tell):
    """The clip at `old` in `new`, of whose streams `tell` says something else."""
    with av.open(str(old)) as first, av.open(str(new), "w") as second:
        streams = [second.add_stream_from_template(stream) for stream in first.streams]
        for stream in streams:
            tell(stream)
        for packet in first.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                second.mux(packet)
    return new


def test_streams_stay_what_they_are_for(tmp_path, input_clip, rewrite, reread):
    kinds = {"audio": av.stream.Disposition.comment, "subtitle": av.stream.Disposition.forced}

    def tell(stream):
        stream.disposition = kinds.get(stream.type, stream.disposition)

    path = copied(input_clip("a.mkv", sound="flac", text="srt"), tmp_path / "b.mkv", tell)
    rewrite(path, Target(tmp_path / "c.mkv"))
    for stream in list(reread(tmp_path / "c.mkv").container.streams)[1:]:
        assert stream.disposition == kinds[stream.type]


def test_counts_of_the_old_file_are_not_told_of_the_new(tmp_path, input_clip, rewrite, reread):
    """Readers, ours too, believe those that mkvmerge writes."""
    counts = {"NUMBER_OF_FRAMES": "999", "BPS": "7", "_STATISTICS_TAGS": "BPS"}
    path = copied(input_clip("a.mkv", sound="flac"), tmp_path / "b.mkv", lambda stream: stream.metadata.update(counts))
    rewrite(path, Target(tmp_path / "c.mkv"))
    told = [stream.metadata for stream in reread(tmp_path / "c.mkv").container.streams]
    assert len(told) == 2 and not any(counts.keys() & one.keys() for one in told)


@pytest.mark.parametrize(("format", "quiet"), [("s16", 0), ("u8", 128), ("fltp", 0)])
def test_gaps_are_silent_unless_a_damaged_stamp_says_days(format, quiet):
    def frame(seconds):
        made = av.AudioFrame(format, "mono", 800)
        made.sample_rate, made.time_base, made.pts = 8000, Fraction(1, 8000), seconds * 8000
        made.planes[0].update(bytes([200]) * made.planes[0].buffer_size)
        return made

    sound = object.__new__(passing._Sound)
    sound._due = None
    made = [[*sound._stamped(frame(seconds))] for seconds in (0, 2, 2 + 100 * 24 * 3600)]
    assert [sum(each.samples for each in group) for group in made] == [800, 16000 - 800 + 800, 800]
    assert {int(sample) for each in made[1][:-1] for sample in each.to_ndarray().ravel()} == {quiet}
    assert made[2][0].pts == (2 + 100 * 24 * 3600) * 8000
