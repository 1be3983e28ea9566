"""A recipe of one step on pictures of a thumb's size."""

from __future__ import annotations

from pathlib import Path

RECIPE = """
model = "{model}"
output = "{folder}/run"
{start}
[optimizer]
steps = 1
[run]
device = "cpu"
workers = 0
[data]
root = "{folder}"
prepared = "{folder}/made"
phases = [{{until = 1, size = 64, batch = 2}}]
{sources}
"""


def one_step(folder: Path, model: str, start: str, *sources: str) -> str:
    """The text of the recipe; `start` holds the keys that say what it begins with, `sources` a table each."""
    tables = "\n".join(f"[[data.sources]]\n{source}" for source in sources)
    return RECIPE.format(folder=folder, model=model, start=start, sources=tables)
