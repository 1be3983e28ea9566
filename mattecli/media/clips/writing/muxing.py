"""A container being written: its settings, what the clip says of itself, and the streams beside the picture."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from mattecli.errors import InputError, reason
from mattecli.media.clips.writing.codecs import CONTAINERS
from mattecli.media.clips.writing.goal import Goal
from mattecli.media.clips.writing.passing import MOVIES, Passing, tags


class Origin(Protocol):
    """What is asked of the clip that frames come from (`reading.Clip`)."""

    @property
    def time_base(self) -> Fraction: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def container(self) -> Any: ...
    @property
    def video(self) -> Any: ...
    @property
    def others(self) -> Sequence[Stream]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def chapters(self) -> Sequence[Any]: ...
    @property
    def timecode(self) -> str: ...
    @property
    def live(self) -> bool: ...


def file_name(clip: Origin) -> str:
    """What `av.open` takes to open the clip once more; "" where it comes from no file."""
    name = str(clip.container.name) if clip.container else ""
    return name if Path(name.removeprefix("file:")).is_file() else ""


QUICKTIME = "com.apple.quicktime."
"""How the names of tags begin that Apple's cameras write and its programs look for."""
_PLAIN = {"album", "artist", "author", "comment", "copyright", "description", "director", "genre", "keywords", "title"}
"""Tags that these have by such names too."""


class Output:
    """The container at `goal`. Add the picture's stream to `container` before `begin`, and mux its packets there."""

    def __init__(self, goal: Goal, suffix: str, time_base: Fraction) -> None:
        self.goal, self._suffix = goal, suffix
        self.notes: list[str] = []
        self._passing: Passing | None = None
        options = _options(suffix, time_base, streamed=goal.streamed)
        self.container = av.open(goal.target, "w", format=CONTAINERS[suffix], container_options=options)

    def name_codec(self, stream: Any, tag: str) -> None:
        """Sets the four characters by which players of .mp4 and .mov know the codec; "": as the muxer does."""
        if tag and self._suffix in MOVIES:
            stream.codec_context.codec_tag = tag

    def begin(self, clip: Origin, *, sound: bool, alone: bool = False) -> None:
        """Takes over metadata, chapters and, unless `alone`, the other streams of the clip, and writes the header.

        Tags of a track in .mov whose names are domains (Apple's, of the lens) are lost: FFmpeg neither reads nor writes
        them.
        """
        self._tell(_begun(tags(clip.metadata), clip.timecode))
        if clip.video:
            self.container.streams[0].metadata.update(_begun(tags(clip.video.metadata), clip.timecode))
        if not alone:
            self._passing = Passing(self.container, self._suffix, clip.others, sound=sound, streamed=self.goal.streamed)
            self.notes += self._passing.notes
        if clip.chapters:
            self.container.set_chapters(list(clip.chapters))
        for stream in self.container.streams:
            if name := stream.metadata.get("name"):  # so .mp4 is read; what is written is the title
                stream.metadata.setdefault("title", name)
        try:
            self.container.start_encoding()
        except FFmpegError as error:
            if error.errno in errno.errorcode:
                raise
            raise InputError(f"{self.goal.name} can't be written: {reason(error)}.") from error

    def _tell(self, metadata: dict[str, str]) -> None:
        """.mp4 and .mov have a place for tags whose names are domains, beside which there is none for plain ones: these
        are told twice then, by the names of the two who may look for them.
        """
        options = self.container.container_options
        if self._suffix in MOVIES and any("." in name for name in metadata):
            options["movflags"] += "+use_metadata_tags"
            metadata = {QUICKTIME + name: tag for name, tag in metadata.items() if name in _PLAIN} | metadata
        self.container.metadata.update(metadata)

    def pass_on(self, packets: Sequence[Packet[Any]]) -> None:
        """Writes what becomes of packets of the clip's other streams."""
        if self._passing:
            for packet in packets:
                self._passing.mux(packet)

    def finish(self) -> None:
        """Ends the file and gives it its name."""
        if self._passing:
            self._passing.finish()
        self.container.close()
        self.goal.finish()

    def discard(self) -> None:
        """Leaves nothing."""
        self.goal.discard()
        with suppress(Exception):
            self.container.close()
        self.goal.discard()  # Windows removes no open file


def _begun(metadata: dict[str, str], timecode: str) -> dict[str, str]:
    """Tags with `timecode` for the time code that they tell, unless it is ""."""
    return {key: timecode if timecode and key.lower() == "timecode" else tag for key, tag in metadata.items()}


def _options(suffix: str, time_base: Fraction, *, streamed: bool) -> dict[str, str]:
    if suffix in (".mkv", ".webm"):
        # sound that begins before zero (AAC of .mp4) must not move the picture
        options = {"avoid_negative_ts": "disabled"}
        return options | ({"cluster_time_limit": "0"} if streamed else {})  # players get whole clusters only
    if streamed:
        return {"movflags": "frag_keyframe+delay_moov+default_base_moof"}
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    # with the movie's own default of milliseconds, edit lists cut the last frame or shift the first
    return {"movflags": "+faststart", "movie_timescale": f"{scale}", "video_track_timescale": f"{scale}"}
