"""From a JPEG to an embedding, beside OpenCV's FaceDetectorYN and FaceRecognizerSF, in one run.

See README.md for how to run it. Both take the same pictures in turn, each in one thread: ours decodes,
detects at two sizes, measures quality and embeds with two models; OpenCV decodes, detects at the picture's
size (and, for comparison, at 320), aligns and embeds with one. Decoding is compared apart as well: OpenCV's
is libjpeg-turbo. Medians, least times and ratios are printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx

from inference import folded

ROOT = Path(__file__).resolve().parents[2]


class Ours:
    """The Rust side, at the other end of a pipe."""

    def __init__(self):
        self.pipe = subprocess.Popen(
            ["cargo", "bench", "-q", "--bench", "face_path"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.pipe.stdout.readline().strip() == "ready"

    def ask(self, path):
        """Milliseconds of the whole and of decoding; none for a picture that is refused."""
        self.pipe.stdin.write(f"{path}\n")
        self.pipe.stdin.flush()
        words = self.pipe.stdout.readline().split()
        return None if words == ["-"] else [int(word) / 1000 for word in words]


class OpenCv:
    """Detects in a square of one side, or at the picture's own size."""

    def __init__(self, models, side):
        self.side = side
        with tempfile.TemporaryDirectory() as folder:
            files = {name: str(Path(folder) / f"{name}.onnx") for name in ("yunet", "sface")}
            for name, file in files.items():
                onnx.save(folded(onnx.load(models / f"{name}.onnx")), file)
            self.detector = cv2.FaceDetectorYN.create(files["yunet"], "", (320, 320), 0.6, 0.3, 5000)
            self.recogniser = cv2.FaceRecognizerSF.create(files["sface"], "")

    def ask(self, path):
        """Milliseconds of the whole and of decoding; none where no face was found."""
        data = np.fromfile(path, dtype=np.uint8)
        begun = time.perf_counter()
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        decoded = time.perf_counter()
        height, width = picture.shape[:2]
        scale = 1.0 if self.side is None else self.side / max(width, height)
        looked_at = picture
        if scale != 1.0:
            size = (round(width * scale), round(height * scale))
            looked_at = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self.detector.setInputSize((looked_at.shape[1], looked_at.shape[0]))
        _, faces = self.detector.detect(looked_at)
        if faces is None:
            return None
        face = max(faces, key=lambda face: face[2] * face[3])
        face = np.concatenate([face[:14] / scale, face[14:]]).astype(np.float32)
        self.recogniser.feature(self.recogniser.alignCrop(picture, face))
        return [(moment - begun) * 1000 for moment in (time.perf_counter(), decoded)]


def pictures_at(width, height, folder):
    """The demonstration's photographs, cut and scaled to one size."""
    paths = []
    for source in sorted((ROOT / "demo").glob("*.jpg")):
        picture = cv2.imread(str(source))
        rows, columns = picture.shape[:2]
        side = min(columns / width, rows / height)
        cut = picture[: round(height * side), (columns - round(width * side)) // 2 :]
        cut = cut[:, : round(width * side)]
        path = Path(folder) / f"{source.stem}-{width}x{height}.jpg"
        resized = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), resized, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths


def row(size, name, times):
    """One side's times, and ours by them: of decoding, where it is of decoding."""
    ours = times["Tulga, decode" if name.endswith("decode") else "Tulga"]
    median, least = statistics.median(times[name]), min(times[name])
    return {"picture": size, "side": name, "samples": len(times[name]),
            "median_ms": round(median, 2), "least_ms": round(least, 2),
            "ours_by_it": round(statistics.median(ours) / median, 2),
            "of_the_least": round(min(ours) / least, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x960", "4000x3000"])
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--json", action="store_true", help="for machines")
    args = parser.parse_args()
    build = ["cargo", "bench", "-q", "--bench", "face_path", "--no-run"]
    subprocess.run(build, cwd=ROOT, check=True)
    # Both sides on one processor, so that neither is moved while it is measured.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    sides = {
        "OpenCV, picture's size": OpenCv(args.models, None),
        "OpenCV, 320": OpenCv(args.models, 320),
    }
    ours, rows = Ours(), []
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            paths = pictures_at(width, height, folder)
            times = {name: [] for name in ["Tulga", *sides, "Tulga, decode", "OpenCV, decode"]}
            for number in range(args.rounds + 1):
                for path in paths:
                    mine = ours.ask(path)
                    others = {name: side.ask(path) for name, side in sides.items()}
                    # The first round warms up; a picture counts where all found a face.
                    if number > 0 and mine and all(others.values()):
                        times["Tulga"].append(mine[0])
                        times["Tulga, decode"].append(mine[1])
                        for name, other in others.items():
                            times[name].append(other[0])
                        times["OpenCV, decode"].append(next(iter(others.values()))[1])
        rows += [row(size, name, times) for name in times if times[name]]
    load = os.getloadavg()[0]
    if args.json:
        print(json.dumps({"opencv": cv2.__version__, "load_average": load, "rows": rows}, indent=2))
        return
    print(f"OpenCV {cv2.__version__}, load average {load:.2f}")
    print(f"{'picture':<10} {'side':<24} {'samples':>7} {'median ms':>10} {'least':>8} {'ours / it':>10} "
          f"{'of the least':>12}")
    for one in rows:
        print(f"{one['picture']:<10} {one['side']:<24} {one['samples']:>7} {one['median_ms']:>10.2f} "
              f"{one['least_ms']:>8.2f} {one['ours_by_it']:>10.2f} {one['of_the_least']:>12.2f}")


if __name__ == "__main__":
    main()
