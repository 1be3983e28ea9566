"""Training recipes: TOML files, read into typed dataclasses and checked before any work begins."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mattecli.errors import UsageError
from mattecli.zoo.registry import card

PACKAGED = Path(__file__).parent / "recipes"

_T = TypeVar("_T")


@dataclass(frozen=True)
class OptimizerSettings:
    """`[optimizer]`: AdamW, linear warm-up and then `schedule` down to `min_lr` (a share of `lr`).

    `steps` and `warmup` count optimiser steps (`steps` 0: the mean of `init` and `soup` is all that is wanted); `clip`
    is the largest gradient norm (0: no clipping).
    """

    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 500
    schedule: Literal["cosine", "constant"] = "cosine"
    min_lr: float = 0.01
    clip: float = 1.0


@dataclass(frozen=True)
class RunSettings:
    """`[run]`: how the loop runs. `..._every` count optimiser steps (0: only at the end).

    `workers` are loader processes (0: in this process); `ema` the decay of the averaged weights, which
    are what is validated and exported; `accumulate` the batches that make up one optimiser step; `rounding` the weight
    of a term that keeps alpha in bf16 what it is in fp32 (`mattecli.training.rounding`; it takes a third more time).
    `bf16_weights` moves the factors of normalisations into the convolutions and rounds what runs in bf16 to it, in what
    is validated and exported: the same weights in both precisions.
    """

    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    workers: int = 2
    accumulate: int = 1
    ema: float = 0.999
    rounding: float = 0.0
    bf16_weights: bool = False
    compile: bool = False
    validate_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 50


@dataclass(frozen=True)
class BlendSettings:
    """`[blend]`: Matte Label Blending. `teacher` is the weights file, `model` its network's name."""

    teacher: str
    model: str = "realtime"


@dataclass(frozen=True)
class Recipe:
    """One training. Relative paths are seen from the working directory.

    `data` is handed to `mattecli.mixing` as it stands, less its `root`. `learns` are patterns of the names of the
    parameters that are trained (`recall.*`); the others, and the running statistics beside them, stay as in `init`.
    `soup` are further weights of the network: it begins with the mean of theirs and `init`'s (Wortsman et al. 2022).
    `encoder` is a file with the public ImageNet weights of the network's encoder, for a training without `init`.
    `self_training` is a folder under `root` with images/ and boxes/: before the first step the network of `init` marks
    the people in it, as trimaps/ in the folder of that name under `data.prepared`, for a source of the kind `trimaps`.
    """

    model: str
    output: Path
    data: dict[str, Any]
    optimizer: OptimizerSettings
    root: Path = Path()
    init: str = ""
    soup: tuple[str, ...] = ()
    encoder: str = ""
    learns: tuple[str, ...] = ("*",)
    self_training: str = ""
    seed: int = 0
    run: RunSettings = field(default_factory=RunSettings)
    blend: BlendSettings | None = None
    file: Path = field(default=Path(), metadata={"key": False})
    """Where it was read from."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Wrong use that shows meanwhile is said with the recipe's file."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.file}: {error}") from error

    @property
    def marked(self) -> Path:
        """Where `self_training` puts its trimaps/."""
        return Path(self.data.get("prepared", "")) / self.self_training

    @property
    def best(self) -> Path:
        """The file that a finished training leaves: averaged weights of the best validation."""
        return self.output / "best.safetensors"

    @property
    def last(self) -> Path:
        """The file that holds the whole state of a training that has begun."""
        return self.output / "last.ckpt"

    def begun(self, resume: bool) -> bool:
        """Whether there is a training to go on with. Raises `UsageError` where there is one and no word of `resume`."""
        if self.last.exists() and not resume:
            raise UsageError(f"{self.output} already holds a training: --resume it or choose another --output.")
        return self.last.exists()

    def digest(self) -> str:
        """A short hash of all that decides the result: not where it is read, written or run."""
        said = asdict(self)
        for where in ("output", "root", "file"):
            said.pop(where)
        said["run"] = {
            "accumulate": self.run.accumulate,
            "bf16_weights": self.run.bf16_weights,
            "ema": self.run.ema,
            "precision": self.run.precision,
            "rounding": self.run.rounding,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]


def packaged() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.toml"))


def read_recipe(
    source: str,
    *,
    data: Path | None = None,
    output: Path | None = None,
    device: str | None = None,
    steps: int | None = None,
) -> Recipe:
    """Read a TOML file, or the packaged recipe of that name; the keywords replace what it says.

    Raises `UsageError` on an unknown key, a wrong type or a value out of range.
    """
    path = Path(source)
    if not path.is_file():
        path = PACKAGED / f"{source}.toml"
    if not path.is_file():
        raise UsageError(
            f"There is no recipe {source!r}: give the path of a TOML file or one of {', '.join(packaged())}."
        )
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    if output is not None:
        table["output"] = str(output)
    if device is not None:
        _part(table, "run", path)["device"] = device
    if steps is not None:
        _part(table, "optimizer", path)["steps"] = steps
    return _recipe(table, path, data)


def check_files(recipe: Recipe, promised: Collection[Path] = ()) -> None:
    """Raise `UsageError` unless the recipe's folders and files are there or `promised` by earlier recipes."""
    if not recipe.root.is_dir():
        raise UsageError(f"The data folder {recipe.root} does not exist: name it with --data or data.root.")
    for folder in (recipe.output, *recipe.output.parents):
        if folder.is_file():
            raise UsageError(f"output names {recipe.output}, but {folder} is a file: name a folder.")
    if recipe.self_training and not (recipe.root / recipe.self_training / "boxes").is_dir():
        raise UsageError(f"self_training names {recipe.root / recipe.self_training}, which has no folder boxes/.")
    teacher = recipe.blend.teacher if recipe.blend else ""
    for key, name in (("init", recipe.init), *(("soup", name) for name in recipe.soup), ("blend.teacher", teacher)):
        if name and not Path(name).is_file() and Path(name).resolve() not in {p.resolve() for p in promised}:
            raise UsageError(f"{key} names {name}, which does not exist: train it first or correct the path.")
    if recipe.encoder and not Path(recipe.encoder).is_file():
        raise UsageError(f"encoder names {recipe.encoder}, which does not exist: correct the path.")


def check_network(recipe: Recipe) -> None:
    """Raise `UsageError` unless the recipe's network can be trained, and its data holds what that is given."""
    about = card(recipe.model)
    if not about.parameters:
        raise UsageError(f"{about.name} is solved, not learned: there is nothing to train.")
    plates = recipe.data.get("background") == "plate"
    if about.inputs == "image + background" and not plates:
        raise UsageError(f"{about.name} is given a background plate: set background = 'plate' in the recipe's [data].")
    if plates and about.inputs != "image + background":
        raise UsageError(f"{about.name} is given no background plate: leave background out of the recipe's [data].")
    if about.layers and recipe.data.get("background") != "layer":
        raise UsageError(f"{about.name} learns from composites: set background = 'layer' in the recipe's [data].")
    if recipe.run.bf16_weights:
        from mattecli.training.rounding import can_round

        if not can_round(about.build()):
            raise UsageError(f"{about.name} does not say which of its layers stay in fp32: leave run.bf16_weights out.")


def _recipe(table: dict[str, Any], path: Path, data: Path | None) -> Recipe:
    mixing = dict(_part(table, "data", path))
    root = mixing.pop("root", ".")
    if not isinstance(root, str):
        raise UsageError(f"{path}: data.root should be a string, not {root!r}.")
    table = {**table, "data": mixing, "root": str(data or root)}
    for key, kind in (("optimizer", OptimizerSettings), ("run", RunSettings), ("blend", BlendSettings)):
        if key in table:
            table[key] = _read(kind, _part(table, key, path), path, f"{key}.")
    if table.get("output") == "":
        raise UsageError(f"{path}: output is empty: name the folder to write to.")
    recipe = replace(_read(Recipe, table, path, ""), file=path)
    _check_ranges(recipe, path)
    return recipe


def _part(table: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    part = table.setdefault(key, {})
    if not isinstance(part, dict):
        raise UsageError(f"{path}: {key} should be a table, not {part!r}.")
    return part


def _read(kind: type[_T], table: dict[str, Any], path: Path, prefix: str) -> _T:
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind) if f.metadata.get("key", True)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: unknown key {prefix}{key}; known are {', '.join(known)}.")
    for key, f in known.items():
        if key not in table and f.default is MISSING and f.default_factory is MISSING:
            raise UsageError(f"{path}: {prefix}{key} is missing.")
    return kind(**{key: _value(hints[key], value, path, prefix + key) for key, value in table.items()})


def _value(hint: Any, value: Any, path: Path, key: str) -> Any:
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        expected = " or ".join(repr(choice) for choice in get_args(hint))
    elif hint == tuple[str, ...]:
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return tuple(value)
        expected = "a list of strings"
    elif get_origin(hint) is tuple:
        numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
        if numbers and len(value) == len(get_args(hint)):
            return tuple(float(v) for v in value)
        expected = f"a list of {len(get_args(hint))} numbers"
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint not in (int, float, str, bool, Path) or type(value) is hint:
        return value
    else:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", Path: "a path"}
        expected = names[hint]
    raise UsageError(f"{path}: {key} should be {expected}, not {value!r}.")


def _check_ranges(recipe: Recipe, path: Path) -> None:
    o, r = recipe.optimizer, recipe.run
    counts = (r.workers, r.validate_every, r.checkpoint_every, r.log_every)
    rules = {
        "self_training asks init for its people, so init must be given": bool(recipe.init or not recipe.self_training),
        "soup adds to init, so init must be given": bool(recipe.init or not recipe.soup),
        "encoder starts a fresh network, so init must not be given beside it": not (recipe.encoder and recipe.init),
        "seed must lie in [0, 2^63)": 0 <= recipe.seed < 2**63,
        "optimizer.steps must be 0 or more": o.steps >= 0,
        "optimizer.lr must be above 0 and finite": 0 < o.lr < math.inf,
        "optimizer.betas must lie in [0, 1)": all(0 <= beta < 1 for beta in o.betas),
        "optimizer.min_lr is a share of lr and must lie in [0, 1]": 0 <= o.min_lr <= 1,
        "optimizer.weight_decay, warmup and clip must be 0 or more, and finite": all(
            0 <= number < math.inf for number in (o.weight_decay, o.warmup, o.clip)
        ),
        "run.accumulate must be 1 or more": r.accumulate >= 1,
        "run.rounding must be 0 or more": r.rounding >= 0,
        "run.ema must lie in [0, 1)": 0 <= r.ema < 1,
        "run.workers and the run.…_every must be 0 or more": min(counts) >= 0,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise UsageError(f"{path}: {sentence}.")
