"""A recipe of few steps on pictures of a thumb's size."""

from __future__ import annotations

from pathlib import Path

RECIPE = """
model = "{model}"
output = "{folder}/run"
{start}
[optimizer]
steps = {steps}
lr = 1e-4
warmup = 0
[run]
device = "cpu"
precision = "fp32"
workers = 0
log_every = 1
checkpoint_every = 1
[data]
root = "{folder}"
prepared = "{folder}/made"
phases = [{{until = 1, size = 64, batch = 2}}]
{data}
{sources}
"""


def small(folder: Path, model: str, *sources: str, start: str = "", data: str = "", steps: int = 1) -> str:
    """`start` holds the keys that say what it begins with, `data` further ones of its table, `sources` a table each."""
    tables = "\n".join(f"[[data.sources]]\n{source}" for source in sources)
    return RECIPE.format(folder=folder.as_posix(), model=model, start=start, data=data, sources=tables, steps=steps)
