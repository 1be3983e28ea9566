"""What the tests of networks, of their weights and of the cache share."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.mixing.batch import Batch, Label

PARITY = Path(__file__).parents[1] / "data" / "parity"


def card(**changes):
    """Of a network of eight numbers, published at an address, but for `changes`."""
    made = zoo.Card(
        name="tiny",
        builder="torch.nn:Linear",
        options={"in_features": 3, "out_features": 2},
        paper="None",
        year=2026,
        inputs="image",
        parameters=8,
        code_licence="MIT",
        weights_licence="MIT",
        address="https://example.org/tiny.pth",
    )
    return replace(made, **changes)


def run(*arguments):
    """`mattecli models` with these arguments: what it printed, and its exit code."""
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert "Traceback" not in result.output and not isinstance(result.exception, Exception)
    return result


class Evil:
    """Unpickled by a careless reader, this makes a folder."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def recorded_losses(kind):
    """What tests/data/parity/losses_KIND.npz holds, as tensors, and its inputs as a batch; black where no image is."""
    with np.load(PARITY / f"losses_{kind}.npz") as archive:
        arrays = {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}
    alpha, levels = arrays["in/alpha"], arrays.get("in/trimap")
    batch = Batch(
        arrays.get("in/img", torch.zeros_like(alpha).expand(-1, 3, -1, -1)),
        alpha,
        torch.ones_like(alpha),
        torch.tensor([Label.MATTE] * len(alpha)),
        trimap=None if levels is None else torch.where(levels == 128, 0.5, levels.float() / 255),
        foreground=arrays.get("in/fg"),
        background=arrays.get("in/bg"),
    )
    return arrays, batch
