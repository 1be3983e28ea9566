"""What an HDR clip says of the screen it was graded on and of its brightest pictures (SMPTE ST 2086, CTA-861.3)."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError

from mattecli.media.clips.writing.muxing import Origin, file_name

MOVING = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}
"""What is said of each picture, and isn't true of others."""


def mastering(encoder: str, clip: Origin) -> tuple[dict[str, str], list[str]]:
    """Options that make `encoder` repeat what the clip says, and a sentence for what is left out.

    None where there is nothing to repeat, or the clip can't be opened again to look.
    """
    if not (name := file_name(clip)):
        return {}, []
    with av.open(name, metadata_errors="replace") as again:
        display, light, moving = _read(again, clip.video.index)
    lost = [f"{each}, which is said of each picture," for each in dict.fromkeys(moving)]
    if (display or light) and encoder not in _WRITERS:
        lost.append("What is said of the screen and the brightest pictures (HDR10)")
    write = _WRITERS.get(encoder)
    return write(display, light) if write else {}, [f"{what} was left out." for what in lost]


def _read(container: InputContainer, index: int) -> tuple[list[float], tuple[int, int] | None, list[str]]:
    """Chromaticities of red, green, blue and white (x, y), lowest and highest nits; highest and mean light level; the
    kinds that are said of each picture.
    """
    display: list[float] = []
    light, moving = None, []
    with suppress(FFmpegError, StopIteration, ValueError):  # the last: there is data of a kind that PyAV doesn't know
        side: Any = next(container.decode(container.streams[index])).side_data  # type: ignore[union-attr]
        if found := side.get("MASTERING_DISPLAY_METADATA"):
            numbers = struct.unpack("22i", bytes(found)[:88])
            # FFmpeg takes brightness that can't be for none, yet its numbers are there
            if any(numbers[20:]) and all(numbers[1:20:2]):
                display = [numbers[i] / numbers[i + 1] for i in range(0, 20, 2)]
        if found := side.get("CONTENT_LIGHT_LEVEL"):
            light = struct.unpack("2I", bytes(found)[:8])
        moving = [words for kind, words in MOVING.items() if kind in side]
    return display, light, moving


def _display(numbers: list[float], corner: float, nit: float, form: str) -> str:
    (*corners, low, high) = numbers
    red, green, blue, white = (
        ",".join(format(value * corner, form) for value in corners[i : i + 2]) for i in range(0, 8, 2)
    )
    return f"G({green})B({blue})R({red})WP({white})L({high * nit:{form}},{low * nit:{form}})"


def _x265(display: list[float], light: tuple[int, int] | None) -> dict[str, str]:
    parts = ["log-level=error"]
    parts += [f"master-display={_display(display, 50000, 10000, '.0f')}"] if display else []
    parts += [f"max-cll={light[0]},{light[1]}"] if light else []
    return {"x265-params": ":".join(parts)}


def _x264(display: list[float], light: tuple[int, int] | None) -> dict[str, str]:
    parts = [f"mastering-display={_display(display, 50000, 10000, '.0f')}"] if display else []
    parts += [f"cll={light[0]},{light[1]}"] if light else []
    return {"x264-params": ":".join(parts)} if parts else {}


def _svt(display: list[float], light: tuple[int, int] | None) -> dict[str, str]:
    parts = [f"mastering-display={_display(display, 1, 1, '.4f')}"] if display else []
    parts += [f"content-light={light[0]},{light[1]}"] if light else []
    return {"svtav1-params": ":".join(parts)} if parts else {}


_WRITERS = {"libx265": _x265, "libx264": _x264, "libsvtav1": _svt}
