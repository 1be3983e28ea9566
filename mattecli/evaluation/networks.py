"""What a network gives for photos and clips, in the 8 bits of the file that `mattecli` would write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from mattecli.errors import InputError
from mattecli.evaluation.clip_dataset import Footage, read_pictures
from mattecli.evaluation.clip_run import PredictClip
from mattecli.evaluation.metrics import Plane
from mattecli.evaluation.run import Predict
from mattecli.evaluation.workers import Map
from mattecli.inference import guided
from mattecli.inference.coarse import Coarse
from mattecli.inference.devices import lacks_memory
from mattecli.inference.frames import Steady, follow
from mattecli.inference.network import Matter
from mattecli.media.photos import Photo


def photos(matter: Matter) -> Predict:
    """The network's alpha at the photo's full size."""

    def predict(photo: Photo) -> Plane:
        with _enough_memory(photo.source):
            return _to_8_bits(matter.matte(photo.rgb))

    return predict


def clips(matter: Matter, steady: Steady = "state") -> PredictClip:
    """The network's alpha at full size, frame by frame in their order; `steady` as `inference.frames.follow` has it."""

    def view(rgb: guided.Picture) -> guided.Picture:
        return guided.resize(rgb, *matter.size_for(*rgb.shape[:2]))

    def finish(seen: tuple[guided.Picture, Coarse]) -> Plane:
        rgb, coarse = seen
        return _to_8_bits(coarse.at(rgb))

    def predict(source: Footage, apply: Map) -> Iterator[Plane]:
        with _enough_memory(str(source.path)):
            yield from apply(finish, follow(matter, read_pictures(source, apply), view, steady=steady))

    return predict


@contextlib.contextmanager
def _enough_memory(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise InputError(f"{name}: not enough memory; try a smaller --size or --device cpu.") from error


def _to_8_bits(alpha: Plane) -> Plane:
    levels: Plane = np.rint(alpha * 255).astype(np.uint8)
    return levels
