"""The tiny training as a fixture, since test files do not import each other."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny() -> Iterator[ModuleType]:
    """tests/training/tiny.py, by a name under which loader processes find it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield importlib.import_module("tiny")


@pytest.fixture(autouse=True)
def _quick(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is trained here is small, and so are the pictures of a validation."""
    monkeypatch.setattr("mattecli.training.validation.LONG_SIDE", 128)
