"""Checkpoints: the whole state of a training."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mattecli import atomic
from mattecli.errors import InputError

FORMAT = 1


@dataclass
class Checkpoint:
    """All that a training needs to go on as if it had never stopped.

    Data and random numbers are functions of (seed, step), so `step` stands for both. `best` holds the
    figures of the best validation yet, `skipped` the steps left out for a gradient that was not finite.
    """

    model: dict[str, Any]
    ema: dict[str, Any]
    optimizer: dict[str, Any]
    step: int
    skipped: int
    best: dict[str, float]
    name: str
    digest: str
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write atomically: a killed process leaves the old file or the new one. Raises `InputError`."""
        try:
            with atomic.replacing(path) as part:
                torch.save({f.name: getattr(self, f.name) for f in fields(self)}, part)
        except (OSError, RuntimeError) as error:
            raise atomic.unwritable(path, error) from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read without running code from the file. Raises `InputError` if it is no checkpoint of ours."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            checkpoint = cls(**state)
        except pickle.UnpicklingError as error:
            raise InputError(f"{path} is not a checkpoint of mattecli train: it holds more than tensors.") from error
        except Exception as error:
            raise InputError(
                f"{path} is damaged or no checkpoint of mattecli train; start again with another --output."
            ) from error
        if checkpoint.format != FORMAT:
            raise InputError(f"{path} has checkpoint format {checkpoint.format}; this version reads {FORMAT}.")
        return checkpoint
