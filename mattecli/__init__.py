"""mattecli: alpha mattes of people in photos and video.

>>> import mattecli
>>> alpha = mattecli.matte(rgb)  # HxWx3 uint8 → HxW float32 in [0, 1]
>>> matter = mattecli.Matter("realtime", device="cpu")  # for many pictures
>>> alphas = [matter.matte(rgb) for rgb in pictures]
>>> for alpha in matter.frames(clip):  # pictures of a clip, in their order: without flicker
...     ...

Nothing here imports torch before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mattecli.inference import Matter, matte

__all__ = ["Matter", "__version__", "matte"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Matter", "matte"):
        from mattecli import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
