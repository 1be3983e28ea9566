"""Training: recipes, the loop, checkpoints and validation. `mattecli train` is its shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mattecli.training.journal import Event, Note, Progress, Report, Validated, sentence
from mattecli.training.recipe import Recipe, check_files, check_network, packaged, read_recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Event",
    "Note",
    "Progress",
    "Recipe",
    "Report",
    "Validated",
    "check_recipes",
    "packaged",
    "read_recipe",
    "sentence",
    "train",
]


def check_recipes(recipes: Sequence[Recipe], resume: bool = False) -> None:
    """Raise `UsageError` unless all can run one after the other: folders, files, models, data tables."""
    from mattecli import zoo
    from mattecli.errors import UsageError
    from mattecli.mixing.sampling import Mixture
    from mattecli.mixing.settings import data_settings
    from mattecli.training.encoder_start import start_encoder

    promised: list[Path] = []
    for recipe in recipes:
        with recipe.named():
            if recipe.best in promised:
                raise UsageError(f"Two recipes write to {recipe.output}: give each its own output.")
            check_files(recipe, promised)
            check_network(recipe)
            Mixture(data_settings(_without_promised(recipe)), recipe.root, recipe.seed)
            if not recipe.begun(resume) and recipe.encoder:
                start_encoder(zoo.create(recipe.model), recipe)
            promised.append(recipe.best)


def _without_promised(recipe: Recipe) -> dict[str, Any]:
    """The recipe's data, less the sources of trimaps that `self_training` is still to make."""
    promised = recipe.self_training and not (recipe.marked / "trimaps").is_dir()
    sources = recipe.data.get("sources", [])
    if not promised or not isinstance(sources, list):
        return recipe.data
    kept = [s for s in sources if not (s.get("kind") == "trimaps" and s.get("labels") == recipe.self_training)]
    return {**recipe.data, "sources": kept}


def _first(recipe: Recipe) -> nn.Module:
    """The network as the first step finds it."""
    from mattecli import zoo
    from mattecli.training.encoder_start import start_encoder

    if not recipe.init:
        network = zoo.create(recipe.model)
        if recipe.encoder and not recipe.last.exists():
            start_encoder(network, recipe)
        return network
    network = zoo.load(recipe.model, recipe.init)
    for count, file in enumerate(recipe.soup, 2):
        others = zoo.load(recipe.model, file).state_dict()
        for name, mean in network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(others[name], 1 / count)
    return network


def train(recipe: Recipe, report: Report | None = None, *, resume: bool = False) -> dict[str, float]:
    """Train a network as the recipe says; with `resume`, go on from its last checkpoint if there is one.

    Leaves in `recipe.output`: `best.safetensors` (averaged weights of the best validation), `last.ckpt`
    (the whole state), `train.log`, `log.jsonl`, and TensorBoard's files where that is installed. Events go
    to `report`. Under `torchrun` every process trains on its own batches.

    Returns the best validation's figures (`iou`, `mad`, `mse`, `step`), empty if there was none. Raises
    `UsageError`, `MatteError` if the training diverges, `KeyboardInterrupt` (after a checkpoint) on
    SIGINT and SIGTERM.
    """
    import torch

    from mattecli import zoo
    from mattecli.inference.network import Matter
    from mattecli.mixing.sampling import Mixture
    from mattecli.mixing.settings import data_settings
    from mattecli.training.loop import Training
    from mattecli.training.processes import joined
    from mattecli.training.self_training import mark

    say = report or (lambda event: None)

    check_files(recipe)
    check_network(recipe)
    torch.manual_seed(recipe.seed)
    network = _first(recipe)
    teacher = zoo.load(recipe.blend.model, recipe.blend.teacher) if recipe.blend else None
    with joined(recipe.run.device) as processes:
        if recipe.self_training and processes.rank == 0:
            matter = Matter(recipe.model, str(processes.device), weights=recipe.init)
            mark(recipe.root / recipe.self_training, recipe.marked, matter, lambda text: say(Note(0, text)))
        processes.wait()
        source = Mixture(data_settings(recipe.data), recipe.root, recipe.seed)
        training = Training(recipe, network, source, report, processes=processes, teacher=teacher, resume=resume)
        return training.run()
