"""Spaces that photos come in, as ICC profiles of the simplest kind (a matrix and a curve) and as formulas."""

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def xyz(x, y):
    return np.array([x / y, 1, (1 - x - y) / y])


def fixed(*numbers):
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


@dataclass(frozen=True)
class Space:
    """By the chromaticities of red, green, blue and white. `gamma` None is sRGB's curve."""

    primaries: tuple
    white: tuple = D65
    gamma: float | None = None

    @cached_property
    def matrix(self):
        """Linear light to XYZ, adapted to D50 (ICC.1, annex E)."""
        white, columns = xyz(*self.white), np.stack([xyz(*place) for place in self.primaries], 1)
        adapt = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
        return adapt @ (columns * np.linalg.solve(columns, white))

    def linear(self, signal):
        if self.gamma:
            return signal**self.gamma
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)

    def signal(self, linear):
        if self.gamma:
            return linear ** (1 / self.gamma)
        return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)

    def to(self, other, signal):
        """Signals in [0, 1] `[..., 3]` of this space as those of another, clipped."""
        mixed = np.linalg.solve(other.matrix, self.matrix) @ self.linear(signal)[..., None]
        return other.signal(mixed[..., 0].clip(0, 1))

    @cached_property
    def profile(self):
        """By a matrix and a curve."""
        curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round((self.gamma or 0) * 256), 0)
        if not self.gamma:
            curve = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        tags = {}
        for name, column in zip((b"r", b"g", b"b"), self.matrix.T, strict=True):
            tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column), name + b"TRC": curve}
        return assemble(b"mntrRGB ", tags)

    @cached_property
    def tables(self):
        """From the device, and to it, as `mft2`, which hold XYZ with 0x8000 for 1."""
        corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
        steps, half = np.linspace(0, 1, 4096), 65535 / 32768
        there = table(np.eye(3), self.linear(steps), corners @ self.matrix.T / half)
        return there, table(np.linalg.inv(self.matrix) * half, self.signal(steps), corners)


def table(matrix, curve, nodes):
    """An `mft2`: a matrix, a curve for each of its inputs, and two nodes along each of them."""
    inputs = (len(nodes) - 1).bit_length()
    head = b"mft2\0\0\0\0" + bytes((inputs, 3, 2, 0)) + fixed(*matrix.ravel()) + struct.pack(">HH", len(curve), 2)
    values = [*np.tile(curve, inputs), *nodes.ravel(), *[0, 1] * 3]
    return head + np.rint(65535 * np.clip(values, 0, 1)).astype(">u2").tobytes()


def assemble(kind, tags):
    """A profile whose class and colour space are `kind`, with XYZ on its other side."""
    text = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 8, 28) + "test".encode("utf-16-be")
    tags = {b"desc": text, b"cprt": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)} | tags
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    size = struct.pack(">I", 128 + len(table + values))
    head = (size + b"\0\0\0\0\4\0\0\0" + kind + b"XYZ ").ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + fixed(*D50)
    return head.ljust(128, b"\0") + table + values


SRGB = Space(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
DISPLAY_P3 = Space(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
BT2020 = Space(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)))
ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma=563 / 256)
PROPHOTO = Space(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), 461 / 256)
