"""The table of networks: one card a variant, read without importing torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from mattecli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Card:
    """What there is to know of a network before it is built.

    `builder` is "module:callable"; `parameters` counts all that training learns. `address` is where the
    authors publish their weights and `sha256` that file's checksum, None where unknown. `weights` is the file
    in `zoo/weights` that this project trained, None if it trained none.
    """

    name: str
    builder: str
    paper: str
    year: int
    inputs: Literal["image", "image + trimap", "image + background"]
    parameters: int
    code_licence: str
    weights_licence: str
    address: str | None = None
    sha256: str | None = None
    notes: str = ""
    weights: str | None = None

    def build(self) -> nn.Module:
        """The network with fresh weights, in training mode."""
        module, attribute = self.builder.split(":")
        return cast("nn.Module", getattr(import_module(module), attribute)())

    @property
    def shipped(self) -> Path | None:
        """Where the weights of this project lie, whether or not they are there yet."""
        return WEIGHTS / self.weights if self.weights else None

    @property
    def model_card(self) -> str | None:
        """The shipped weights' own card (data, recipe, figures, known failures), None without one."""
        page = WEIGHTS / f"{self.name}.md"
        return page.read_text(encoding="utf-8") if page.is_file() else None


CARDS = (
    Card(
        name="realtime",
        builder="mattecli.zoo.realtime:RealTime",
        paper="mattecli's own network",
        year=2026,
        inputs="image",
        parameters=3_380_246,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        notes="The default. People first; recurrent over the frames of a clip.",
        weights="realtime.safetensors",
    ),
    Card(
        name="modnet",
        builder="mattecli.zoo.modnet:MODNet",
        paper="MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition",
        year=2022,
        inputs="image",
        parameters=6_487_075,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        address="https://drive.google.com/drive/folders/1umYmlCulvIFNaqPjwod1SayFmSRHziyR",
        notes="Portraits. The folder holds modnet_photographic_portrait_matting.ckpt and "
        "modnet_webcam_portrait_matting.ckpt; take one in a browser.",
    ),
)


def names() -> tuple[str, ...]:
    """The networks' names, the default first."""
    return tuple(card.name for card in CARDS)


def card(name: str) -> Card:
    """The card of the network called `name`. Raises `UsageError`, naming the nearest, if there is none."""
    for entry in CARDS:
        if entry.name == name:
            return entry
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f"the nearest is {near[0]!r} (see `mattecli models`)" if near else f"there are {', '.join(names())}"
    raise UsageError(f"There is no network called {name!r}; {hint}.")
