"""Pictures as files."""

import cv2


def save(path, array):
    """`array`, `[H, W]` or `[H, W, C]` in OpenCV's order, in folders that are made where they lack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
