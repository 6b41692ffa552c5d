"""Durable receipts a second beside PostgreSQL's single-row commits, in one run on one disk.

    python3 benches/side_by_side/ledger.py [--seconds 10] [--rounds 3] [--dir FOLDER]

A receipt is decided, signed, chained and synced, and its head recorded in a second file, before its
caller is answered. `pgbench` commits one inserted row a transaction with `synchronous_commit = on`, as
many clients at once, over a socket, in a cluster of its own on the same disk. Both are asked in turn,
round after round, and medians are printed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALLERS = [1, 16, 256]
# PostgreSQL does not run as root.
ACCOUNT = "postgres"


def program(name):
    found = shutil.which(name)
    if found is None:
        installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(installed[-1]) if installed else None
    if found is None:
        raise SystemExit(f"{name} is missing: apt-get install postgresql postgresql-contrib")
    return found


class Cluster:
    """A PostgreSQL of its own, for the time of the run."""

    def __init__(self, folder):
        self.folder = Path(folder) / "cluster"
        self.as_account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
        if os.geteuid() != 0:
            self.as_account = []
        self.folder.mkdir()
        if self.as_account:
            shutil.chown(self.folder, ACCOUNT, ACCOUNT)
        self.run(program("initdb"), "-D", self.folder / "data", "-A", "trust", "-U", "bench")
        options = (
            f"-k {self.folder} -c listen_addresses='' -c max_connections=300 "
            "-c synchronous_commit=on -c fsync=on -c shared_buffers=256MB"
        )
        self.pg_ctl("start", "-l", self.folder / "log", "-o", options)
        self.script = self.folder / "insert.sql"
        # As many bytes as a receipt has.
        self.script.write_text("INSERT INTO receipts (jws) VALUES (repeat('x', 900));\n")
        self.psql("CREATE TABLE receipts (index bigserial PRIMARY KEY, jws text NOT NULL)")

    def run(self, *command):
        command = [*self.as_account, *map(str, command)]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{command}: {done.stderr}")
        return done.stdout

    def pg_ctl(self, *arguments):
        # Its output goes nowhere: the server would hold the pipe open.
        command = [*self.as_account, program("pg_ctl"), "-w", "-D", self.folder / "data"]
        subprocess.run(
            [*map(str, command), *map(str, arguments)],
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def psql(self, statement):
        options = ["-h", self.folder, "-U", "bench", "-d", "postgres", "-c", statement]
        return self.run(program("psql"), *options)

    def commits(self, clients, seconds):
        said = self.run(
            program("pgbench"), "-n", "-M", "prepared", "-f", self.script, "-c", clients,
            "-j", min(clients, 2), "-T", seconds, "-h", self.folder, "-U", "bench", "postgres",
        )
        rate = next(line for line in said.splitlines() if line.startswith("tps = "))
        latency = next(line for line in said.splitlines() if line.startswith("latency average"))
        return float(rate.split()[2]), float(latency.split()[3]) * 1000

    def close(self):
        self.pg_ctl("stop", "-m", "fast")


class Ours:
    def __init__(self, folder):
        self.folder = Path(folder)
        subprocess.run(
            ["cargo", "bench", "-q", "--features", "test-support", "--no-run", "--bench", "sequencer"],
            cwd=ROOT,
            check=True,
        )

    def ask(self, *arguments):
        with tempfile.TemporaryDirectory(dir=self.folder) as data:
            said = subprocess.run(
                ["cargo", "bench", "-q", "--features", "test-support", "--bench", "sequencer", "--"]
                + [*map(str, arguments), data],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
        return [float(word) for word in said.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--dir", default=str(ROOT / "target"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        os.chmod(folder, 0o755)
        ours, cluster = Ours(folder), Cluster(folder)
        try:
            measure(options, ours, cluster)
        finally:
            cluster.close()


def measure(options, ours, cluster):
    receipts = {callers: [] for callers in CALLERS}
    commits = {callers: [] for callers in CALLERS}
    unsynced = []
    for _ in range(options.rounds):
        for callers in CALLERS:
            receipts[callers].append(ours.ask("receipts", callers, options.seconds, "FULL"))
            commits[callers].append(cluster.commits(callers, options.seconds))
        unsynced.append(ours.ask("receipts", 1, options.seconds, "OFF"))
    print("| callers at once | durable receipts/s | p50 | p99 | pgbench commits/s | mean | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for callers in CALLERS:
        rate, p50, p99 = (statistics.median(round[at] for round in receipts[callers]) for at in range(3))
        beside, mean = (statistics.median(round[at] for round in commits[callers]) for at in range(2))
        print(
            f"| {callers} | {rate:,.0f} | {p50 / 1000:.2f} ms | {p99 / 1000:.2f} ms "
            f"| {beside:,.0f} | {mean / 1000:.2f} ms | {rate / beside:.2f} |"
        )
    synced = statistics.median(round[1] for round in receipts[1])
    free = statistics.median(round[1] for round in unsynced)
    print(f"\np50 of one caller: {synced:.0f} µs, {free:.0f} µs without any sync: "
          f"durability adds {synced - free:.0f} µs")
    rate, p50, _, entries = ours.ask("proofs", options.entries, options.seconds)
    print(f"proofs: {rate:,.0f}/s, p50 {p50:.1f} µs, of a ledger of {entries:,.0f} entries")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
