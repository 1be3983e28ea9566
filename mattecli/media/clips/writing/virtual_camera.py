"""Frames into a virtual camera, which calls and streaming programs take for a webcam (extra `live`)."""

from __future__ import annotations

import time

from av.video.reformatter import Interpolation, VideoReformatter

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.planes.hdr import to_sdr
from mattecli.media.clips.planes.swscale import picture_of, reformat
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import Clip
from mattecli.media.clips.writing.codecs import pixel_name

NAME = "camera"


def camera_device(text: str | None) -> tuple[bool, str | None]:
    """Whether an output is the virtual camera ("camera", "camera:DEVICE"), and which device is asked for."""
    name, _, device = (text or "").partition(":")
    return name == NAME, device or None


class VirtualCamera:
    """A sink that shows each frame when it comes, those of files in their own time, and keeps none.

    Raises UsageError without pyvirtualcam and for what a camera can't show, InputError where there is no such device.
    """

    done_until = whole = None

    def __init__(self, device: str | None, format: Format, clip: Clip | Camera) -> None:
        if format.alpha:
            raise UsageError("A camera shows no transparency; choose another --output, or a file.")
        try:
            import pyvirtualcam
        except ImportError as error:
            raise UsageError(
                "A virtual camera needs the extra: pip install 'mattecli[live]'; or name a file, or -o - for a player."
            ) from error
        try:
            self._camera = pyvirtualcam.Camera(format.width, format.height, float(clip.rate), device=device)
        except RuntimeError as error:
            raise InputError(f"No virtual camera can be opened: {'; '.join(str(error).splitlines())}") from error
        self._paced, self._converter = not clip.live, VideoReformatter()
        self._began: float | None = None
        self.encoder = f"virtual camera {self._camera.device}"
        self.notes = (
            ["Sound was left out: a camera has none."] if any(one.type == "audio" for one in clip.others) else []
        )

    def write(self, frame: Frame) -> None:
        if self._paced:
            now = time.monotonic()
            self._began = now - frame.time if self._began is None else self._began
            time.sleep(max(0.0, self._began + frame.time - now))
        frame = to_sdr(frame)
        picture, colour = picture_of(frame.planes, pixel_name(frame.format)), frame.format.colour
        rgb = reformat(self._converter, picture, "rgb24", colour, colour, way=Interpolation.BILINEAR)
        self._camera.send(rgb.to_ndarray())

    def close(self) -> None:
        self._camera.close()

    abort = close
