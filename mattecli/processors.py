"""How much can be done at once."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells a container's share of the processors' time: microseconds of so many, or `max`."""


def processors() -> int:
    """CPU cores that this process may use: those it may run on, no more than a container's share of their time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _share()))


@functools.cache
def _share() -> int:
    try:
        quota, period = LIMIT.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return os.cpu_count() or 1
