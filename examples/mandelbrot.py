"""A picture of the Mandelbrot set: the tiles are tasks, pasted as they come.

Start it with workers, or without:

    mpiexec -n 4 python -m mpitasks examples/mandelbrot.py --output mandelbrot.png
    python examples/mandelbrot.py
"""

from __future__ import annotations

import argparse
import functools
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np

import mpitasks

CENTER, SPAN = -0.7436 + 0.1318j, 0.0145  # of the picture, in the complex plane


def compute_tile(
    width: int, height: int, tile: int, iterations: int, corner: tuple[int, int]
) -> np.ndarray:
    """Return the colours of the tile whose upper left pixel is `corner` (x, y)."""
    x = np.arange(corner[0], min(corner[0] + tile, width)) - width / 2
    y = np.arange(corner[1], min(corner[1] + tile, height)) - height / 2
    c = CENTER + (x - 1j * y[:, None]) * (SPAN / width)
    z = np.zeros_like(c)
    escape = np.full(c.shape, np.nan)
    alive = np.ones(c.shape, dtype=bool)
    for i in range(iterations):
        z[alive] = z[alive] ** 2 + c[alive]
        gone = alive & (abs(z) > 16)
        escape[gone] = i + 1 - np.log2(np.log2(abs(z[gone])) / 4)
        alive &= ~gone
    phase = np.log1p(escape)[..., None] * 5 + np.array([2.1, 2.6, 3.4])
    return np.nan_to_num(127.5 - 127.5 * np.cos(phase)).astype(np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write rows of (red, green, blue) bytes as a PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # 0: rows not filtered
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 6))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


def main() -> None:
    """Compute the tiles, paste them, write the picture."""
    parser = argparse.ArgumentParser(description="Draw a part of the Mandelbrot set.")
    parser.add_argument("--size", nargs=2, type=int, default=[960, 640], metavar="N")
    parser.add_argument("--tile", type=int, default=64, help="pixels along its edge")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("mandelbrot.png"))
    args = parser.parse_args()
    width, height = args.size
    xs, ys = range(0, width, args.tile), range(0, height, args.tile)
    corners = list(itertools.product(xs, ys))
    draw = functools.partial(compute_tile, width, height, args.tile, args.iterations)
    picture = np.empty((height, width, 3), np.uint8)
    with mpitasks.Executor() as executor:
        for i, colours in executor.map_unordered(draw, corners):
            x, y = corners[i]
            picture[y : y + args.tile, x : x + args.tile] = colours
    write_png(args.output, picture)
    print(f"Wrote {args.output}: {width} x {height} pixels from {len(corners)} tiles")


if __name__ == "__main__":
    main()
