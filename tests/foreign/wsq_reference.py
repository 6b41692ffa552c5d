#!/usr/bin/env python3
"""Decodes WSQ files by NIST's code, as the package `wsq` has it, for comparison.

    wsq_reference.py OUT [FILE.wsq ...]

Writes OUT/NAME.raw, the grey pixels row by row, for each file. Without files it first draws pictures
of rings, nobody's finger, of several sizes and qualities into OUT/NAME.wsq and takes those. Needs
Python 3.9 and the packages `wsq`, `pillow` and `numpy`.
"""
import pathlib
import sys

import numpy as np
import wsq  # noqa: F401  (registers itself with Pillow)
from PIL import Image

# Even and odd both ways, so that every subband is once the longer and once the shorter half.
SIZES = [(300, 300), (256, 360), (301, 299), (213, 187), (355, 391), (160, 481), (545, 203)]


def rings(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    grey = 128 + np.sin(np.hypot(x + 30, 1.1 * (y + 20)) / 1.4) * 90 + (x - y) / 10
    noise = np.random.default_rng(width).normal(0, 6, grey.shape)
    return np.clip(grey + noise, 0, 255).round().astype(np.uint8)


def main(out, files):
    out = pathlib.Path(out)
    files = [pathlib.Path(file) for file in files]
    if not files:
        for width, height in SIZES:
            files.append(out / f"{width}x{height}.wsq")
            Image.fromarray(rings(width, height)).save(files[-1])
    for file in files:
        pixels = np.array(Image.open(file).convert("L"))
        (out / file.with_suffix(".raw").name).write_bytes(pixels.tobytes())
    print(f"ok: {len(files)} files")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
