"""Test clips with exact alpha, from the photos that a recipe keeps aside.

    python -m mattecli.mixing.sequences RECIPE.toml clips/ --data DATA

People cut out of photos that were never trained on move before the scenery of others, seen by a moving camera, with
people passing, things in front, changes of light, noise and cuts: what training on clips shows, for as many frames
as wanted. Every clip is a folder with images/ and alphas/ of numbered PNGs, as `mattecli eval` reads them.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mattecli.errors import MatteError, UsageError
from mattecli.mixing.sampling import Mixture
from mattecli.mixing.settings import DataSettings, Phase, data_settings

MOTION = (0.01, 2.0)
"""Speeds against those of training. So the pictures move by 0.6, 1.1 and 1.9 pixels a frame at 512 (quartiles of 40
clips, by optical flow); real ones do by 0.1, 0.4 and 1.7 (25 clips). At training's own speeds the median is 2.2."""


def settings(data: DataSettings, size: int, frames: int, motion: tuple[float, float] = MOTION) -> DataSettings:
    """`data` with its true mattes alone, one composed clip of `frames` a batch."""
    sources = [
        replace(source, weight=source.weight if source.kind == "mattes" else 0.0, composed=1.0)
        for source in data.sources
    ]
    phase = Phase(until=1, size=size, batch=frames, frames=frames)
    return replace(data, sources=tuple(sources), phases=(phase,), clips=1.0, motion=motion)


def write(mixture: Mixture, number: int, out: Path) -> None:
    """Clip number `number` as `out`/NNN/images/NNNN.png and alphas/NNNN.png (8 bits)."""
    clip = mixture.batch(number)
    for kind, planes in (("images", clip.image[0]), ("alphas", clip.alpha[0])):
        folder = out / f"{number:03}" / kind
        folder.mkdir(parents=True, exist_ok=True)
        for t, plane in enumerate(planes):
            levels = np.rint(plane.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{t:04}.png"), levels[..., ::-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m mattecli.mixing.sequences", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path, help="TOML file whose [data] names the sources")
    parser.add_argument("out", type=Path, help="folder for the clips")
    parser.add_argument("--data", type=Path, default=None, help="folder of the data sets, instead of data.root")
    parser.add_argument("--clips", type=int, default=12, metavar="N")
    parser.add_argument("--frames", type=int, default=48, metavar="N")
    parser.add_argument("--size", type=int, default=512, metavar="N", help="longer side in pixels")
    parser.add_argument(
        "--motion",
        type=float,
        nargs=2,
        default=MOTION,
        metavar=("SLOWEST", "FASTEST"),
        help="clips' speeds against those of training (default %(default)s: as real clips move)",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        table = tomllib.loads(options.recipe.read_text("utf-8"))["data"]
        root = options.data or Path(table.get("root", "."))
        table.pop("root", None)
        slowest, fastest = options.motion
        if not 0 < slowest <= fastest:
            raise UsageError(f"--motion {slowest:g} {fastest:g}: give the slowest and the fastest, above 0.")
        data = settings(data_settings(table), options.size, options.frames, (slowest, fastest))
        mixture = Mixture(data, root, options.seed, held_out=True)
        for number in tqdm(range(options.clips), unit="clip"):
            write(mixture, number, options.out)
    except (MatteError, OSError, KeyError, tomllib.TOMLDecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
