#!/usr/bin/env python3
"""Runs the minutiae model on grey pictures of one size, with onnxruntime.

    leader.py MODEL INPUT OUTPUT WIDTH HEIGHT

INPUT holds the pictures' bytes one after the other, row by row; OUTPUT gets the model's four maps of
each as 32-bit floats, little endian.
"""

import sys

import numpy
import onnxruntime


def main() -> None:
    model, source, target = sys.argv[1:4]
    width, height = int(sys.argv[4]), int(sys.argv[5])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pictures = numpy.fromfile(source, numpy.uint8).reshape(-1, 1, 1, height, width)
    with open(target, "wb") as file:
        for picture in pictures:
            (maps,) = session.run(["map"], {"image": picture.astype(numpy.float32)})
            file.write(maps.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
