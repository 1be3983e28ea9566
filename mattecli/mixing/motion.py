"""How things and the camera move over the frames of a clip made from photos."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing.sources import Pixels

Matrix = NDArray[np.float64]
Generator = np.random.Generator

STILL = 0.35
"""Share of the things that do not move, and of the cameras that stand on a tripod."""


def paths(canvas: tuple[int, int], frames: int, rng: Generator, strength: float = 1.0) -> list[Matrix]:
    """A 3 × 3 affine matrix a frame, from where a thing is in the first frame to where it is then, in canvas pixels.

    A way there and back at up to 1.5 percent of the canvas a frame, with a swing around it, a slow turn and zoom,
    and a lean that comes and goes, all about a point of the canvas. `strength` scales them; one frame stands still.
    """
    if frames == 1 or rng.random() < STILL:
        return [np.eye(3)] * frames
    height, width = canvas
    side, pivot = min(canvas), np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    speed = strength * side * np.exp(rng.uniform(np.log(0.0005), np.log(0.015)))
    heading, turn, zoom = rng.uniform(0, 2 * np.pi), strength * rng.normal(0, 0.004), strength * rng.normal(0, 0.004)
    swing, lean = strength * rng.normal(0, 0.01, 2) * side, strength * rng.normal(0, 0.03)
    period, phase = rng.uniform(6, 40), rng.uniform(0, 2 * np.pi)
    far = rng.uniform(8, 20)
    matrices = []
    for t in range(frames):
        wave = np.sin(2 * np.pi * t / period + phase) - np.sin(phase)
        gone = far * np.sin(t / far)
        angle, scale = turn * gone, np.exp(zoom * gone)
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = linear @ np.array([[1, lean * wave], [0, 1]])
        offset = speed * gone * np.array([np.cos(heading), np.sin(heading)]) + swing * wave
        matrices.append(_affine(linear, pivot - linear @ pivot + offset))
    return matrices


def camera(canvas: tuple[int, int], frames: int, rng: Generator, strength: float = 1.0) -> list[Matrix]:
    """As `paths`, for all that is seen: a pan, and the shake of a hand."""
    moving = paths(canvas, frames, rng, 0.6 * strength)
    if frames == 1 or rng.random() < 0.5:
        return moving
    size = strength * np.exp(rng.uniform(np.log(3e-4), np.log(5e-3))) * min(canvas)
    shake = np.zeros(2)
    shaken = []
    for matrix in moving:
        shaken.append(_affine(np.eye(2), shake) @ matrix)
        shake = 0.7 * shake + rng.normal(0, size, 2)
    return shaken


def exposure(frames: int, rng: Generator) -> list[float]:
    """A gain a frame: mostly steady, sometimes drifting, now and then with a flash."""
    gains = np.ones(frames)
    if frames > 1 and rng.random() < 0.3:
        far = rng.uniform(3, 8)
        gains = np.exp(rng.normal(0, 0.06) * far * np.sin(np.arange(frames) / far))
    if frames > 1 and rng.random() < 0.05:
        gains[rng.integers(frames)] *= rng.uniform(1.2, 1.8)
    return [float(gain) for gain in gains]


def occluder(canvas: tuple[int, int], rng: Generator) -> Pixels:
    """The soft-edged mask `[H, W]` of something round that stands in front: a pole, a passer-by's back, a leaf."""
    height, width = canvas
    centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
    axes = (max(2, int(rng.uniform(0.03, 0.15) * width)), max(2, int(rng.uniform(0.1, 0.6) * height)))
    mask = np.zeros(canvas, np.uint8)
    cv2.ellipse(mask, centre, axes, float(rng.uniform(-30, 30)), 0, 360, 255, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3.0)), dtype=np.uint8)


def move(picture: Pixels, matrix: Matrix, border: int = cv2.BORDER_REFLECT_101) -> Pixels:
    """A picture on its canvas, moved on it."""
    if np.array_equal(matrix, np.eye(3)):
        return picture
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _affine(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, offset
    return matrix
