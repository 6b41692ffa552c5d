"""The gallery's search beside FAISS's exact int8 and float scans, in one run.

See README.md for how to run it. Every round asks everybody the same probes in turn, so that
whatever else the machine does falls on all alike; medians are printed, and the share of the memory's
speed that was measured between them.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ROWS_AT_ONCE = 200_000
# What a person costs here: a row in full, its codes and bound, the key and its place.
OURS_BYTES_A_ROW = 5.04
QUANTISERS = {
    "IndexScalarQuantizer QT_8bit_direct_signed": "QT_8bit_direct_signed",
    "IndexScalarQuantizer QT_8bit": "QT_8bit",
    "IndexFlatIP": None,
}


def available_gib():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    return 0.0


class Ours:
    """The Rust side, at the other end of a pipe."""

    name = "Tulga"

    def __init__(self, people, width, seed):
        self.width = width
        self.pipe = subprocess.Popen(
            ["cargo", "bench", "-q", "--bench", "search", "--", str(people), str(width), str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        word, seconds = self.pipe.stdout.readline().split()
        assert word == b"ready"
        self.loading_s = float(seconds)

    def ask(self, line):
        self.pipe.stdin.write(f"{line}\n".encode())
        self.pipe.stdin.flush()

    def answer(self, line):
        self.ask(line)
        return self.pipe.stdout.readline().decode().split()

    def floats(self, line, rows):
        self.ask(line)
        data = self.pipe.stdout.read(rows * self.width * 4)
        return np.frombuffer(data, dtype="<f4").reshape(rows, self.width)

    def top(self, probes, threads):
        words = self.answer(f"top {probes} {threads}")
        return float(words[0]), [int(key) for key in words[1::2]]

    def resident_gib(self):
        group = subprocess.run(
            ["ps", "-o", "rss=", "--ppid", str(self.pipe.pid)], capture_output=True, text=True
        )
        own = Path(f"/proc/{self.pipe.pid}/statm").read_text().split()[1]
        children = sum(int(kib) for kib in group.stdout.split())
        return max(children / 2**20, int(own) * os.sysconf("SC_PAGE_SIZE") / 2**30)

    def close(self):
        self.pipe.stdin.close()
        self.pipe.wait()


class Theirs:
    """One of FAISS's flat indexes."""

    def __init__(self, name, width, scale):
        self.name, quantiser = name, QUANTISERS[name]
        self.is_signed = quantiser == "QT_8bit_direct_signed"
        self.scale = scale
        if quantiser is None:
            self.index = faiss.IndexFlatIP(width)
        else:
            kind = getattr(faiss.ScalarQuantizer, quantiser)
            self.index = faiss.IndexScalarQuantizer(width, kind, faiss.METRIC_INNER_PRODUCT)

    def of(self, rows):
        """Whole numbers are what this quantiser keeps; the others take rows as they are."""
        return np.clip(np.rint(rows * self.scale), -127, 127) if self.is_signed else rows

    def add(self, rows):
        rows = self.of(rows)
        if not self.index.is_trained:
            self.index.train(rows)
        self.index.add(rows)

    def top(self, probes, threads):
        faiss.omp_set_num_threads(threads)
        begun = time.perf_counter()
        keys = self.index.search(self.of(probes), 1)[1]
        return time.perf_counter() - begun, keys[:, 0].tolist()


def fill(ours, people, width):
    """Every index of FAISS's that the memory has room for, with the same rows."""
    # Their largest number becomes 127; what is above it in the rest is cut off.
    scale = 127 / np.abs(ours.floats(f"rows 0 {ROWS_AT_ONCE}", ROWS_AT_ONCE)).max()
    room = available_gib() - 2
    theirs = []
    for name, quantiser in QUANTISERS.items():
        # An index grows by doubling its array, which is there twice for a moment.
        gib = 1.5 * people * width * (4 if quantiser is None else 1) / 2**30
        if gib > room:
            print(f"left out for want of memory: {name} ({gib:.1f} GiB; {room:.1f} are free)")
            continue
        room -= gib
        theirs.append(Theirs(name, width, scale))
    for first in range(0, people, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, people - first)
        rows = ours.floats(f"rows {first} {count}", count)
        for index in theirs:
            index.add(rows)
    return theirs


def measure(ours, theirs, probes, threads, batches, rounds):
    seconds = {}
    for _ in range(rounds):
        for batch in batches:
            read_bytes, read_s, _ = ours.answer(f"read {threads}")
            seconds.setdefault("read", []).append(int(read_bytes) / float(read_s))
            took, _ = ours.top(batch, threads)
            seconds.setdefault((ours.name, batch), []).append(took)
            for index in theirs:
                took, _ = index.top(probes[:batch], threads)
                seconds.setdefault((index.name, batch), []).append(took)
    medians = {what: statistics.median(times) for what, times in seconds.items()}
    return medians | {"fastest read": max(seconds["read"])}


def report(medians, people, width, batches):
    fastest = medians.pop("fastest read")
    print(f"plain read: median {medians.pop('read') / 1e9:.1f} GB/s, fastest {fastest / 1e9:.1f} GB/s")
    names = [name for name, batch in medians if batch == batches[0]]
    for batch in batches:
        ours = medians[("Tulga", batch)]
        for name in names:
            took = medians[(name, batch)]
            line = f"{batch:4} probes, {name:44} {1e3 * took / batch:9.2f} ms a probe"
            line += f", {took / ours:6.2f} of ours"
            if batch == 1:
                bandwidth = people * width * codes_bytes(name) / took
                line += f", {bandwidth / 1e9:.1f} GB/s, {bandwidth / fastest:.0%} of the fastest read"
            print(line)


def codes_bytes(name):
    return 4 if QUANTISERS.get(name, "") is None else 1


def compare(ours, theirs, probes):
    """How often each index's best row is the one that a scan in full finds."""
    for index in theirs:
        _, keys = ours.top(len(probes), 2)
        _, found = index.top(probes, 2)
        same = sum(a == b for a, b in zip(keys, found))
        print(f"best row as ours: {index.name:44} {same} of {len(probes)} probes")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=128, choices=[64, 128, 256, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 16, 64])
    parser.add_argument("--check", type=int, default=0, help="probes to compare with a scan in full")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    needed_gib = args.people * (OURS_BYTES_A_ROW * args.width + 70) / 2**30
    if needed_gib > available_gib():
        raise SystemExit(f"{needed_gib:.1f} GiB are needed, {available_gib():.1f} are free")
    assert shutil.which("cargo"), "cargo is needed"
    ours = Ours(args.people, args.width, args.seed)
    print(f"{args.people} people, {args.width} numbers, {args.threads} threads; FAISS {faiss.__version__}")
    print(f"enrolled in {ours.loading_s} s, {ours.resident_gib():.2f} GiB resident")
    theirs = fill(ours, args.people, args.width)
    probes = ours.floats(f"probes {max(args.batches)}", max(args.batches))
    measure(ours, theirs, probes, args.threads, [1], 1)
    print(f"load average before {os.getloadavg()[0]:.2f}")
    medians = measure(ours, theirs, probes, args.threads, args.batches, args.rounds)
    print(f"load average after {os.getloadavg()[0]:.2f}")
    report(medians, args.people, args.width, args.batches)
    median, greatest, scans = ours.answer("insert 300")
    print(
        f"inserting while scans are under way: median {1e3 * float(median):.2f} ms, "
        f"greatest {1e3 * float(greatest):.2f} ms ({scans} scans)"
    )
    if args.check:
        compare(ours, theirs, ours.floats(f"probes {args.check}", args.check))
        print("against a scan in full:", *ours.answer(f"check {args.check} 420"))
    ours.close()


if __name__ == "__main__":
    main()
