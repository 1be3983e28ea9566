"""Names of clips to be written, and what must not be written over."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from mattecli.errors import UsageError

NUMBER = re.compile(r"%(0?\d*)d")


def is_file(source: str) -> bool:
    """Whether it names files: no stdin, URL or webcam."""
    elsewhere = source == "-" or re.match(r"(?i)webcam(:|$)|[a-z][a-z0-9+.]+:", source)
    return not elsewhere or Path(source).exists()


def beside(source: str, tag: str, suffix: str) -> Path:
    """`clip_TAG.mp4` beside `clip.mov`; a sequence `shot_%04d.png` makes `shot_TAG.mp4`; a URL is named by its end."""
    path = Path(source) if is_file(source) else Path(Path(re.split(r"[?#]", source)[0]).name)
    stem = re.sub(r"%0?\d*d|[*?]|\[.*?\]", "", path.stem).strip("_-. ") or "clip"
    return path.with_name(f"{stem}_{tag}{suffix}")


def check_goal(goal: Path, sources: list[str], overwrite: bool) -> None:
    """Raises UsageError where writing `goal` would destroy one of `sources`, or any file unless `overwrite`."""
    there = files_of(str(goal))
    given = {os.path.realpath(name): name for source in sources for name in files_of(source)}
    for name in there:
        if os.path.realpath(name) in given:
            raise UsageError(f"{name} is an input and would be overwritten; choose another output.")
    if there and not overwrite:
        others = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(f"{there[0]} exists already{others}; pass --overwrite or choose another output.")


def files_of(text: str) -> list[str]:
    """The files that a path, or a pattern of numbered pictures, stands for; devices and pipes are none."""
    path = Path(text)
    if path.exists() or not is_file(text):
        return [text] if path.is_file() else []
    if NUMBER.search(path.name) and path.parent.is_dir():
        named = re.compile(r"\d+".join(re.escape(part) for part in NUMBER.split(path.name)[::2]))
        return sorted(str(one) for one in path.parent.iterdir() if named.fullmatch(one.name))
    return sorted(glob.glob(text)) if glob.has_magic(path.name) else []  # noqa: PTH207 (absolute too)
