"""The `[data]` table of a recipe: which photos, how they are mixed, how large the samples are."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args

from mattecli.errors import UsageError
from mattecli.mixing.scene import Background
from mattecli.mixing.sources import KINDS, Source

BACKGROUNDS: tuple[str, ...] = get_args(Background)


@dataclass(frozen=True)
class Phase:
    """How large the samples are up to batch number `until` (exclusive; the last phase has no end)."""

    until: int
    size: int
    """Longer side of the canvas in pixels, a multiple of 32."""
    batch: int
    closeup: float = 0.4
    """Probability of a close-up (bust, face, detail) for a subject shown in its own photo."""
    frames: int = 1
    """Frames of a clip; a batch holds `batch` pictures all the same."""


@dataclass(frozen=True)
class DataSettings:
    """The `[data]` table of a recipe: which folders, how much of each, at what sizes."""

    sources: tuple[Source, ...]
    phases: tuple[Phase, ...]
    background: Background = "none"
    """What batches hold as `background`, with the subjects' colours as `foreground` beside it: the `layer` behind the
    subjects, which composed the image; or a `plate`, that scenery photographed apart. Either way all samples are
    composed, by the sources' weight times composed: in its own photo a subject hides what is behind it, and a plate
    painted there would have photographed colours outside the subject and invented ones inside, and so tell its alpha.
    """
    prepared: str = ""
    """Folder in which `labels` of the sources are found; relative to where the command runs."""
    tilt: float = 6.0
    """Standard deviation of the camera's roll in degrees."""
    turned: float = 0.0
    """Share of the samples that are turned by a right angle, as photos are whose camera said nothing."""
    objects: float = 0.0
    """Share of the subjects with a rendered thing before them, which is then theirs, or (every other time, in their own
    photo) behind them; and of the backgrounds in which such things stand. See `mixing.objects`."""
    film: float = 0.0
    """Share of the samples in shades of grey, between black bars, or both. Not with a `background`."""
    clips: float = 1.0
    """Share of the batches that are clips, in phases with more than one frame."""
    motion: tuple[float, float] = (1.0, 1.0)
    """Slowest and fastest clip, as a factor of the speeds of `mixing.motion`; drawn evenly on a logarithmic scale."""
    groups: float = 0.25
    """Probability of a second (and then of a third) subject in a composed sample."""
    aspects: tuple[float, ...] = (0.667, 0.75, 1.0, 1.0, 1.5)
    """Width over height of the canvases, drawn evenly."""


def data_settings(table: dict[str, Any]) -> DataSettings:
    """Validate a `[data]` table. Raises UsageError naming the first key that is wrong."""
    table = dict(table)
    sources = tuple(_build(Source, t, "data.sources") for t in _tables(table, "sources"))
    phases = tuple(_build(Phase, t, "data.phases") for t in _tables(table, "phases"))
    if not sources or not phases:
        raise UsageError("The recipe's [data] needs at least one [[data.sources]] and one [[data.phases]].")
    for source in sources:
        if source.kind not in KINDS:
            raise UsageError(f"Source '{source.name}': kind '{source.kind}' is none of {', '.join(KINDS)}.")
        if min(source.weight, source.scenery, source.holdout) < 0 or not 0 <= source.composed <= 1:
            raise UsageError(f"Source '{source.name}': shares can't be negative, and composed lies in [0, 1].")
    for phase in phases:
        if phase.size % 32 or phase.size < 32:
            raise UsageError(f"data.phases: size {phase.size} is not a multiple of 32.")
        if phase.batch < 1:
            raise UsageError(f"data.phases: batch {phase.batch} is not 1 or more.")
        if not 0 <= phase.closeup <= 1:
            raise UsageError(f"data.phases: closeup {phase.closeup} is a probability: it lies in [0, 1].")
        if not 1 <= phase.frames <= phase.batch:
            raise UsageError(f"data.phases: frames {phase.frames} is not between 1 and the batch of {phase.batch}.")
    if table.get("background", "none") not in BACKGROUNDS:
        raise UsageError(f"data: background {table['background']!r} is none of {', '.join(BACKGROUNDS)}.")
    if "aspects" in table:
        table["aspects"] = _numbers(table["aspects"], "aspects", "widths over heights")
    if "motion" in table:
        table["motion"] = _numbers(table["motion"], "motion", "factors of speed")
        if len(table["motion"]) != 2 or table["motion"][0] > table["motion"][1]:
            raise UsageError(f"data: 'motion' should be the slowest and the fastest, not {list(table['motion'])!r}.")
    settings: DataSettings = _build(DataSettings, {**table, "sources": sources, "phases": phases}, "data")
    for key in ("turned", "objects", "film", "groups", "clips"):
        if not 0 <= getattr(settings, key) <= 1:
            raise UsageError(f"data: {key} {getattr(settings, key)} is a share: it lies in [0, 1].")
    if not 0 <= settings.tilt <= 180:
        raise UsageError(f"data: tilt {settings.tilt} is a standard deviation in degrees, of 0 or more.")
    if settings.film and settings.background != "none":
        raise UsageError(f"data: film goes with background = \"none\", not with '{settings.background}'.")
    if not any(s.weight > 0 for s in sources):
        raise UsageError("The recipe's [data] has no source with a weight above 0.")
    return settings


def _tables(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.pop(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UsageError(f"data.{key} should be a list of tables ([[data.{key}]]), not {found!r}.")
    return found


def _numbers(value: Any, key: str, what: str) -> tuple[float, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(a, int | float) and a > 0 for a in value):
        raise UsageError(f"data: '{key}' should be a list of {what} above 0, not {value!r}.")
    return tuple(value)


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def _build(kind: type, table: dict[str, Any], where: str) -> Any:
    types = {f.name: str(f.type) for f in fields(kind)}
    for key, value in table.items():
        if key not in types:
            raise UsageError(f"{where}: unknown key '{key}'. It knows {', '.join(types)}.")
        wanted: tuple[type, ...] = _TYPES.get(types[key], ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and types[key] != "bool")):
            raise UsageError(f"{where}: '{key}' should be {types[key]}, not {value!r}.")
    for f in fields(kind):
        if f.name not in table and f.default is MISSING:
            raise UsageError(f"{where}: '{f.name}' is missing.")
    return kind(**table)
