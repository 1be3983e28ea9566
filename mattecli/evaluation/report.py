"""What an evaluation found: scores by image and region, and everything that could not be scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Scores = dict[str, dict[str, float]]
"""`{"whole": {"sad": …}, "trimap": {…}}`; the second only where there are trimaps."""


@dataclass(frozen=True)
class Row:
    """The scores of one image or clip; `mask` says that its ground truth has no soft edge."""

    name: str
    scores: Scores
    mask: bool
    frames: int = 1


@dataclass(frozen=True)
class Report:
    """`missing` names images (or clips: `unit`) without prediction, `failed` says why others could not be scored,
    `surplus` names predictions without ground truth."""

    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    failed: dict[str, str]
    surplus: tuple[str, ...]
    unit: Literal["images", "clips"] = "images"

    @property
    def expected(self) -> int:
        """How many ground truths there are."""
        return len(self.rows) + len(self.missing) + len(self.failed)

    @property
    def complete(self) -> bool:
        """Whether every ground truth was scored."""
        return len(self.rows) == self.expected

    @property
    def truth(self) -> str:
        """`masks` if every ground truth scored is binary, else `mattes`."""
        return "masks" if self.rows and all(row.mask for row in self.rows) else "mattes"

    def mean(self) -> Scores:
        """The plain mean over the images or clips scored; empty if there are none."""
        if not self.rows:
            return {}
        return {
            region: {metric: sum(row.scores[region][metric] for row in self.rows) / len(self.rows) for metric in scores}
            for region, scores in self.rows[0].scores.items()
        }

    def record(self, per_image: bool = False) -> dict[str, Any]:
        """The report as JSON wants it; clips are always listed one by one."""
        record: dict[str, Any] = {
            self.unit: len(self.rows),
            "expected": self.expected,
            "truth": self.truth,
            "mean": self.mean(),
            "missing": list(self.missing),
            "failed": self.failed,
            "surplus": list(self.surplus),
        }
        if self.unit == "clips":
            record["frames"] = sum(row.frames for row in self.rows)
            record["per_clip"] = [{"name": row.name, "frames": row.frames, **row.scores} for row in self.rows]
        elif per_image:
            record["per_image"] = [{"name": row.name, **row.scores} for row in self.rows]
        return record
