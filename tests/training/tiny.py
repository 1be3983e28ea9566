"""A network, photos and a command of a few milliseconds, for the tests of the training loop.

Run as a script (`tiny.py RECIPE [resume] [hang]`), it trains as `mattecli train` would, in a process that a test
can kill or that `torchrun` can start several of; with `hang`, batch 9 never comes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.sampling import Sample
from mattecli.training import read_recipe, validation
from mattecli.training.journal import Report
from mattecli.training.loop import Training
from mattecli.training.processes import joined
from mattecli.training.recipe import Recipe
from mattecli.zoo.spec import Prediction, Spec, long_side

RECIPE = """
model = "tiny"
output = "{output}"
seed = 3
[optimizer]
steps = {steps}
lr = 0.02
warmup = 2
[run]
device = "cpu"
precision = "{precision}"
workers = {workers}
accumulate = {accumulate}
ema = 0.9
validate_every = {validate_every}
checkpoint_every = 3
log_every = 2
"""


class Tiny(nn.Module):
    """Everything that a checkpoint can forget: running statistics, dropout, a parameter that no loss reaches."""

    spec = Spec(size=long_side(64, 32))

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)
        )
        self.head = nn.Conv2d(8, 2, 1)
        self.idle = nn.Parameter(torch.ones(3, 3))

    def forward(self, image: Tensor, *, trimap=None, background=None, state=None) -> Prediction:
        planes = self.head(self.body(image)).sigmoid()
        return Prediction(planes[:, :1], boundary=planes[:, 1:])

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        assert prediction.alpha.dtype == torch.float32
        error = (prediction.alpha - batch.alpha).abs() * batch.known
        return {"alpha": error.mean(), "boundary": 0.1 * prediction.boundary.mean()}


class Squares:
    """Bright squares on dark noise; batch i is a function of i."""

    def __init__(self, poison: range = range(0), hang: int | None = None, label: Label = Label.MATTE) -> None:
        self.poison, self.hang, self.label = poison, hang, label

    def batch(self, index: int) -> Batch:
        if index == self.hang:
            time.sleep(600)
        rng = np.random.default_rng(index)
        alpha = torch.zeros(4, 1, 32, 32)
        for sample in alpha:
            y, x = rng.integers(0, 16, 2)
            sample[:, y : y + 16, x : x + 16] = 1
        image = (0.6 * alpha + 0.4 * torch.from_numpy(rng.random((4, 3, 32, 32), np.float32))).contiguous()
        if index in self.poison:
            image[0, 0, 0, 0] = torch.nan
        label = torch.full((4,), int(self.label))
        return Batch(image, alpha, torch.ones_like(alpha), label, mask=alpha)

    def validation(self) -> Iterator[Sample]:
        for index in (1000, 1001):
            batch = self.batch(index)
            image = (batch.image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            yield Sample(image, batch.alpha[0, 0].numpy(), f"squares/{index}")


def recipe(
    folder: Path,
    *,
    steps: int = 6,
    workers: int = 0,
    accumulate: int = 1,
    precision: str = "fp32",
    validate_every: int = 3,
) -> Path:
    """Write a recipe whose output is `folder`/run."""
    path = folder / "recipe.toml"
    output = (folder / "run").as_posix()
    text = RECIPE.format(
        output=output,
        steps=steps,
        workers=workers,
        accumulate=accumulate,
        precision=precision,
        validate_every=validate_every,
    )
    path.write_text(text)
    return path


def train(
    plan: Recipe,
    source: Squares | None = None,
    *,
    report: Report | None = None,
    resume: bool = False,
    teacher: nn.Module | None = None,
) -> Training:
    """What `mattecli.training.train` does, with this network and these photos."""
    torch.manual_seed(plan.seed)
    network = Tiny()
    with joined(plan.run.device) as processes:
        training = Training(
            plan,
            network,
            source or Squares(),
            report,
            processes=processes,
            teacher=teacher,
            resume=resume,
        )
        training.run()
    if processes.rank:
        torch.save(training.network.state_dict(), plan.output / f"rank{processes.rank}.pt")
    return training


if __name__ == "__main__":
    torch.set_num_threads(1)
    validation.LONG_SIDE = 128  # as conftest.py has it
    try:
        train(
            read_recipe(sys.argv[1]),
            Squares(hang=9 if "hang" in sys.argv else None),
            resume="resume" in sys.argv,
        )
    except KeyboardInterrupt:
        sys.exit(130)
