#!/usr/bin/env python3
"""Verifies a whole exported ledger, sharing no code with the gateway.

    verify_export.py DIR TRUST

Checks the register, every receipt, gap-free indices, every embedded prior head, the root under the
latest checkpoint and under every kept one. Needs Python 3.9 and the package `cryptography`.
"""
import pathlib
import sys

from verify_receipt import (
    Refused, b64, leaf_hash, load_keys, node_hash, open_checkpoint, open_receipt, read_json, require,
    sha256,
)


class Tree:
    """Roots of all prefixes from the complete subtrees on the right edge (RFC 6962)."""

    def __init__(self):
        self.size, self.edge = 0, []
        self.roots = [sha256(b"")]

    def push(self, leaf):
        self.size += 1
        self.edge.append(leaf)
        n = self.size
        while n % 2 == 0:
            right, left = self.edge.pop(), self.edge.pop()
            self.edge.append(node_hash(left, right))
            n //= 2
        root = self.edge[-1]
        for subtree in reversed(self.edge[:-1]):
            root = node_hash(subtree, root)
        self.roots.append(root)


def notes(text):
    """Cuts the file of checkpoints: a note ends with its last signature line."""
    note, signed = "", False
    for line in text.splitlines(keepends=True):
        is_signature = line.startswith("\u2014 ")
        if signed and not is_signature:
            yield note
            note, signed = "", False
            if line == "\n":
                continue
        note, signed = note + line, signed or is_signature
    if note:
        yield note


def verify(directory, trust):
    keys = load_keys(directory, trust)
    latest = (directory / "checkpoint").read_text()
    origin = latest.split("\n", 1)[0]
    erased = {e["index"]: e for e in read_json((directory / "erasures.json").read_bytes())["erased"]}
    tree, listed, ids = Tree(), {}, {}

    def skip_erased():
        while tree.size in erased:
            tree.push(b64(erased[tree.size]["leaf"]))

    for jws in (directory / "receipts.jws").read_text().splitlines():
        skip_erased()
        body = open_receipt(jws, keys)
        log = body["log"]
        require(log["origin"] == origin, f"entry {tree.size} is of another ledger")
        require(log["index"] == tree.size, f"entry {tree.size} is missing or out of order")
        require(log["prior_size"] <= tree.size, f"entry {tree.size} names a head of the future")
        prior = tree.roots[log["prior_size"]]
        require(b64(log["prior_root"]) == prior, f"entry {tree.size} names another ledger's head")
        require(body["rid"] not in ids, f"entry {tree.size} repeats an id")
        ids[body["rid"]] = tree.size
        listed[tree.size] = [range(b["first"], b["last"] + 1) for b in body.get("bodies", [])]
        tree.push(leaf_hash(jws))
    skip_erased()
    for index, entry in erased.items():
        said = any(index in span for span in listed.get(entry["erasure"], []))
        require(said, f"the body of entry {index} is missing and no erasure says so")

    size, root = open_checkpoint(latest, keys, origin)
    require(size == tree.size, f"the checkpoint covers {size} entries, the export has {tree.size}")
    require(root == tree.roots[size], "the receipts do not give the checkpoint's root")
    count = 0
    for note in notes((directory / "checkpoints").read_text()):
        size, root = open_checkpoint(note, keys, origin)
        require(size <= tree.size, "a kept checkpoint covers more than the export")
        require(root == tree.roots[size], f"the checkpoint of {size} entries is of another history")
        count += 1
    return tree.size, count


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        entries, checkpoints = verify(pathlib.Path(sys.argv[1]), sys.argv[2])
    except (Refused, ValueError, KeyError) as why:
        sys.exit(f"REFUSED: {why}")
    print(f"ok: {entries} entries, {checkpoints} kept checkpoints")


if __name__ == "__main__":
    main()
