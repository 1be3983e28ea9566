"""Mattes that are solved for, not learned: nothing to download and nothing to train, given a trimap.

    closed-form   A Closed-Form Solution to Natural Image Matting (Levin, Lischinski, Weiss, PAMI 2008): the colours
                  of a 3×3 window lie on one line for the foreground and one for the background
    knn           KNN Matting (Chen, Li, Tang, PAMI 2013): pixels of like colour and place have like alpha

Both minimise αᵀLα with α fixed where the trimap knows it; the solvers are pymatting's (the `trimap` extra), on the CPU
and in double precision. They have no gradients and no ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mattecli.errors import InputError, UsageError
from mattecli.mixing import matting_laplacian
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.spec import Prediction, Spec, native

Map = NDArray[np.float32]

NEIGHBOURS = (20, 10)
"""How many neighbours knn looks for, once with place counting much and once little."""

CERTAINTY = 100.0
"""The weight λ of known pixels among knn's equations, pymatting's."""


class Solved(nn.Module):
    """See the module's docstring. Any size; each picture of a batch is solved by itself.

    Raises `UsageError` where pymatting isn't installed.
    """

    spec = Spec(size=native(), needs="trimap")

    def __init__(self, method: Literal["closed-form", "knn"]) -> None:
        super().__init__()
        found = find_spec("pymatting")
        if found is None or found.origin is None:  # a folder that pip left behind has none
            raise UsageError(f"{method} is solved by pymatting, which isn't installed: pip install 'mattecli[trimap]'.")
        self.method = method

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] and trimap `[N, 1, H, W]` → alpha `[N, 1, H, W]`, the trimap where that knows.

        A trimap that knows nothing, or all, comes back as it is. Raises `UsageError` without a trimap, `InputError`
        where the equations find no solution.
        """
        trimap = trimaps.required(trimap, self.method)
        alpha = torch.stack([self._matte(*pair) for pair in zip(image, trimap, strict=True)])
        return Prediction(trimaps.keep_known(alpha, trimap))

    def _matte(self, image: Tensor, trimap: Tensor) -> Tensor:
        unknown = (trimap > 0) & (trimap < 1)
        if unknown.all() or not unknown.any():
            return trimap
        colours = np.ascontiguousarray(image.detach().float().cpu().permute(1, 2, 0).numpy())
        try:
            alpha = _SOLVERS[self.method](colours, trimap[0].detach().float().cpu().numpy())
        except ValueError as error:
            raise InputError(
                f"The equations of {self.method} found no solution: mark more of the trimap, or shrink the picture."
            ) from error
        return torch.from_numpy(alpha).to(trimap)[None]


def closed_form(image: Map, trimap: Map) -> Map:
    """alpha `[H, W]` of image `[H, W, 3]`. Pictures thinner than a window of 3 pixels repeat their edge."""
    _pymatting()
    height, width = trimap.shape
    lacking = ((0, max(0, 3 - height)), (0, max(0, 3 - width)))
    if min(height, width) < 3:
        image, trimap = np.pad(image, (*lacking, (0, 0)), mode="edge"), np.pad(trimap, lacking, mode="edge")
    return matting_laplacian.solve(image, trimap)[:height, :width]


def knn(image: Map, trimap: Map) -> Map:
    """alpha `[H, W]` of image `[H, W, 3]`."""
    pymatting = _pymatting()
    known = ((trimap == 0) | (trimap == 1)).ravel()
    neighbours = [min(count, trimap.size) for count in NEIGHBOURS]
    laplacian = pymatting.knn_laplacian(image.astype(np.float64), n_neighbors=neighbours)
    equations = laplacian + CERTAINTY * import_module("scipy.sparse").diags(known.astype(np.float64))
    right = CERTAINTY * (trimap == 1).ravel().astype(np.float64)
    alpha = pymatting.cg(equations, right, M=pymatting.jacobi(equations))
    return np.asarray(np.clip(alpha, 0, 1), np.float32).reshape(trimap.shape)


_SOLVERS: dict[str, Callable[[Map, Map], Map]] = {"closed-form": closed_form, "knn": knn}


def _pymatting() -> Any:
    pymatting = import_module("pymatting")
    # It prints what it tries on stdout, where mattes may go, and replacing sys.stdout would reach other threads.
    vars(import_module("pymatting.preconditioner.ichol"))["print"] = lambda *_: None
    return pymatting
