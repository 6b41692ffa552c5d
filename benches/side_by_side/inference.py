"""The models beside onnxruntime, on one thread, turn by turn.

    python3 -m venv target/side-by-side
    target/side-by-side/bin/pip install numpy onnx onnxruntime pillow
    target/side-by-side/bin/python benches/side_by_side/inference.py

onnxruntime runs each model twice over: as the file is (stock), and with each PReLU written as four
cheaper operators (decomposed), which it runs faster. Every round gives each its turn, so that whatever
else the machine does falls on all alike: the ratios count, not the times. Then ten pictures, the five
of demo/ and their mirror images, are answered by all, and the largest difference from stock is told.

The liveness models are no part of the project; --liveness DIR names a folder that has them. --leader
FILE names the network of fingerprints' minutiae and --prints DIR ten prints for it, pictures at 500 dpi;
it is measured at two sizes, and told are also the time that another size takes to be made ready and the
most memory that the process has had.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ["obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg", "astronaut.png"]
RUNS_A_TURN = 10


def driver():
    """Builds the Rust side and tells where it lies."""
    command = ["cargo", "bench", "-q", "--bench", "inference", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    messages = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    built = [m["executable"] for m in messages if m.get("target", {}).get("name") == "inference"]
    return [path for path in built if path][-1]


def vectors():
    """The kinds of vectors that the processor has, the widest first."""
    known = {
        "amx": {"amx_tile", "amx_bf16", "avx512_bf16"},
        "avx512": {"avx512f"},
        "avx2": {"avx2", "fma"},
    }
    there = set(Path("/proc/cpuinfo").read_text().split())
    return [isa for isa, flags in known.items() if flags <= there] or ["plain"]


class Ours:
    """The Rust side, at the other end of a pipe."""

    def __init__(self, program, model, shape, isa, pictures):
        self.name = f"Tulga {isa}"
        self.pipe = subprocess.Popen(
            [program, str(model), "x".join(map(str, shape)), isa, pictures],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        word, loading_ms = self.pipe.stdout.readline().split()
        assert word == "ready"
        self.loading_ms = float(loading_ms)

    def ask(self, line, lines=1):
        self.pipe.stdin.write(f"{line}\n")
        self.pipe.stdin.flush()
        return [np.array(self.pipe.stdout.readline().split(), dtype=float) for _ in range(lines)]

    def times(self, runs):
        return list(self.ask(f"time {runs}")[0])

    def answer(self, number, outputs):
        return self.ask(f"answer {number}", outputs)

    def close(self):
        self.pipe.stdin.close()
        self.pipe.wait()


class Theirs:
    """onnxruntime, in this process."""

    def __init__(self, name, model, pictures):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.name, self.pictures = name, pictures
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name

    def run(self, number):
        return self.session.run(None, {self.input: self.pictures[number : number + 1]})

    def times(self, runs):
        times = []
        for _ in range(runs):
            begun = time.perf_counter()
            self.run(0)
            times.append((time.perf_counter() - begun) * 1e3)
        return times

    def answer(self, number, _outputs):
        return [output.ravel() for output in self.run(number)]

    def close(self):
        pass


def folded(model):
    """The same model with its block-quantised weights in f32, as onnxruntime does not fold them by
    itself; and with its one input, though old files list their weights as inputs too.
    """
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if not all(name in constants for name in node.input):
            kept.append(node)
            continue
        inputs = [constants[name] for name in node.input]
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "DequantizeLinear":
            axis, block = given.get("axis", 1), given.get("block_size", 0)
            if block:
                inputs[1:] = [
                    np.repeat(part, block, axis).take(range(inputs[0].shape[axis]), axis)
                    for part in inputs[1:]
                ]
            zero = inputs[2].astype(np.float32) if len(inputs) > 2 else np.float32(0)
            result = (inputs[0].astype(np.float32) - zero) * inputs[1]
        elif node.op_type == "Reshape":
            result = inputs[0].reshape(inputs[1])
        else:
            kept.append(node)
            continue
        constants[node.output[0]] = result
        graph.initializer.append(onnx.numpy_helper.from_array(result, node.output[0]))
    for there, wanted in ((graph.node, kept), (graph.input, [graph.input[0]])):
        wanted = [type(one).FromString(one.SerializeToString()) for one in wanted]
        del there[:]
        there.extend(wanted)
    used = {name for node in graph.node for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    weights = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return model


def resized(model, shape):
    """The same model for an input of another shape: planes, rows, columns."""
    model.graph.input[0].type.tensor_type.shape.CopyFrom(
        onnx.helper.make_tensor_type_proto(1, [1, *shape]).tensor_type.shape
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return model


def decomposed(model):
    """PReLU(x) as slope·x + (1 − slope)·ReLU(x)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    initialisers = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = []
    for node in copy.graph.node:
        if node.op_type != "PRelu":
            nodes.append(node)
            continue
        (x, slope), (y,) = node.input, node.output
        rest = 1 - onnx.numpy_helper.to_array(initialisers[slope])
        copy.graph.initializer.append(onnx.numpy_helper.from_array(rest, f"{y}.rest"))
        nodes += [
            onnx.helper.make_node("Mul", [x, slope], [f"{y}.all"]),
            onnx.helper.make_node("Relu", [x], [f"{y}.positive"]),
            onnx.helper.make_node("Mul", [f"{y}.positive", f"{y}.rest"], [f"{y}.scaled"]),
            onnx.helper.make_node("Add", [f"{y}.all", f"{y}.scaled"], [y]),
        ]
    changed = len(nodes) > len(copy.graph.node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy if changed else None


def pictures(side, colour):
    """The square middle of each picture and its mirror image, as planes from 0 to 255."""
    planes = []
    for name in PICTURES:
        picture = ImageOps.fit(Image.open(ROOT / "demo" / name).convert("RGB"), (side, side))
        for view in (picture, ImageOps.mirror(picture)):
            numbers = np.asarray(view, dtype=np.float32).transpose(2, 0, 1)
            planes.append(numbers[::-1] if colour == "bgr" else numbers)
    return np.ascontiguousarray(np.stack(planes))


def prints(folder, height, width):
    """Ten prints in the middle of grey like their corner, as planes from 0 to 255."""
    kinds = {".tif", ".tiff", ".png", ".pgm", ".bmp"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in kinds)
    planes = []
    for path in paths[:: max(1, len(paths) // 10)][:10]:
        numbers = np.asarray(Image.open(path).convert("L"), dtype=np.float32)[:height, :width]
        plane = np.full((height, width), numbers[0, 0], dtype=np.float32)
        top, left = (height - numbers.shape[0]) // 2, (width - numbers.shape[1]) // 2
        plane[top : top + numbers.shape[0], left : left + numbers.shape[1]] = numbers
        planes.append(plane[None])
    return np.stack(planes)


def compare(program, path, numbers, isas, rounds, runs=RUNS_A_TURN):
    shape = numbers.shape[1:]
    size = "x".join(map(str, shape[1:]))
    print(f"{path.name}, {size}; load average {os.getloadavg()[0]:.1f}")
    model = resized(folded(onnx.load(path)), shape)
    with tempfile.NamedTemporaryFile(suffix=".f32") as file:
        file.write(numbers.astype("<f4").tobytes())
        file.flush()
        theirs = [Theirs("onnxruntime stock", model, numbers)]
        if (cheaper := decomposed(model)) is not None:
            theirs.append(Theirs("onnxruntime decomposed", cheaper, numbers))
        ours = [Ours(program, path, shape, isa, file.name) for isa in isas]
    everybody = theirs + ours
    times = {one.name: [] for one in everybody}
    for one in everybody:
        one.times(runs)
    for _ in range(rounds):
        for one in everybody:
            times[one.name] += one.times(runs)
    medians = {name: statistics.median(each) for name, each in times.items()}
    stock = [theirs[0].answer(number, None) for number in range(len(numbers))]
    for one in everybody:
        far = max(
            float(np.abs(mine - his).max())
            for number, outputs in enumerate(stock)
            for mine, his in zip(one.answer(number, len(outputs)), outputs)
        )
        ratios = "  ".join(f"{medians[one.name] / medians[his.name]:.2f}" for his in theirs)
        print(
            f"  {one.name:24} median {medians[one.name]:8.3f} ms  least {min(times[one.name]):8.3f}"
            f"  n={len(times[one.name])}  ratio to theirs {ratios}  difference {far:.1e}",
            flush=True,
        )
    if path.name.startswith("leader"):
        for one in ours:
            ready = one.ask(f"resize {shape[1] + 32} {shape[2] + 64}")[0][0]
            peak = one.ask("memory ")[0][0]
            print(f"  {one.name:24} another size {ready:.2f} ms  most memory {peak:.0f} MiB")
    for one in ours:
        if (peak := one.ask("peak ")[0][0]) > 0:
            print(f"  {one.name:24} one core can do {peak:.0f} billion operations a second, without tiles")
    for one in everybody:
        one.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--liveness", type=Path, help="folder with the MiniFASNet models")
    arguments.add_argument("--leader", type=Path, default=os.environ.get("TULGA_LEADER"))
    arguments.add_argument("--prints", type=Path, help="folder with pictures of fingers")
    arguments.add_argument("--sizes", default="320x320,512x512", help="for --leader: rows x columns")
    arguments.add_argument("--isa", help="amx, avx512, avx2, plain; with commas. Without it, what there is")
    arguments.add_argument("--rounds", type=int, default=12, help="turns, of ten runs each")
    arguments.add_argument("--only", default="", help="part of a model's name")
    arguments.add_argument("--program", help="the Rust side, if it has been built already")
    chosen = arguments.parse_args()
    models = ROOT / "models"
    jobs = [
        (models / "sface.onnx", 112, "rgb"),
        (models / "yunet.onnx", 320, "bgr"),
        (models / "yunet.onnx", 640, "bgr"),
        (models / "dlib.onnx", 150, "rgb"),
    ]
    if chosen.liveness:
        jobs += [(path, 80, "bgr") for path in sorted(chosen.liveness.glob("minifasnet*.onnx"))]
    print(f"onnxruntime {onnxruntime.__version__}, one thread each")
    program = chosen.program or driver()
    isas = chosen.isa.split(",") if chosen.isa else vectors()
    # Both sides on one processor, so that neither is moved while it is measured.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for path, side, colour in jobs:
        if chosen.only in path.name:
            compare(program, path, pictures(side, colour), isas, chosen.rounds)
    if chosen.leader and chosen.prints and chosen.only in Path(chosen.leader).name:
        for size in chosen.sizes.split(","):
            height, width = map(int, size.split("x"))
            fingers = prints(chosen.prints, height, width)
            # A run takes a hundred times as long as one of a face model.
            compare(program, Path(chosen.leader), fingers, isas, chosen.rounds, runs=2)


if __name__ == "__main__":
    main()
