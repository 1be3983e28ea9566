"""What a card of a network says, and the table of them looked up by name; read without importing torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from mattecli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Terms = Literal["free", "copyleft", "non-commercial"]

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Card:
    """What there is to know of a network before it is built.

    `builder` is "module:callable" and `options` its keywords; `parameters` counts all that training learns; `layers`
    says that it learns from the layers that composed its images. `address` is where the authors publish their weights:
    the file itself where `direct`, else a page for a browser. `sha256` is that file's checksum, None where unknown;
    `layout` is how it is made and `terms` what may be done with it: anything, anything under the same licence
    (copyleft), or nothing commercial. `weights` is the file in `zoo/weights` that this project trained, None if it
    trained none.
    """

    name: str
    builder: str
    paper: str
    year: int
    inputs: Literal["image", "image + trimap", "image + background"]
    parameters: int
    code_licence: str
    weights_licence: str
    terms: Terms = "free"
    address: str | None = None
    direct: bool = False
    sha256: str | None = None
    notes: str = ""
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: bool = False
    layout: str = ""

    def build(self) -> nn.Module:
        """The network with fresh weights, in training mode."""
        module, attribute = self.builder.split(":")
        return cast("nn.Module", getattr(import_module(module), attribute)(**self.options))

    @property
    def download(self) -> str | None:
        """The address from which a program can take the weights, None where there is none."""
        return self.address if self.direct else None

    @property
    def included(self) -> Path | None:
        """The weights of this project in this installation, None without."""
        path = WEIGHTS / self.weights if self.weights else None
        return path if path and path.is_file() else None

    @property
    def model_card(self) -> str | None:
        """The shipped weights' own card (data, recipe, figures, known failures), None without one."""
        page = WEIGHTS / f"{self.name}.md"
        return page.read_text(encoding="utf-8") if page.is_file() else None


@cache
def _table() -> tuple[Card, ...]:
    from mattecli.zoo.cards import CARDS  # not above: its cards are made of the class here

    return CARDS


def names() -> tuple[str, ...]:
    """The networks' names, the default first."""
    return tuple(card.name for card in _table())


def card(name: str) -> Card:
    """The card of the network called `name`. Raises `UsageError`, naming the nearest, if there is none."""
    for entry in _table():
        if entry.name == name:
            return entry
    near = ", ".join(map(repr, _nearest(name)))
    nearest = f" the nearest {'are' if ',' in near else 'is'} {near}, and" if near else ""
    raise UsageError(f"There is no network called {name!r};{nearest} `mattecli models` lists them all.")


def _nearest(name: str) -> list[str]:
    """At most three names: those that hold `name` as a part, then those that are written alike."""
    name = name.lower()
    holding = [known for known in names() if name in known]
    return list(dict.fromkeys((*holding, *difflib.get_close_matches(name, names(), cutoff=0.5))))[:3]
