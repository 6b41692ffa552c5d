#!/usr/bin/env python3
"""Verifies a whole exported ledger, or several that follow each other, sharing no code with the gateway.

    verify_ledger.py DIR TRUST [--held DIR] [--earlier FILE] [--policy FILE] [--bound SECONDS]

Checks the register and its signature, every receipt with its key's range and time, gap-free indices,
prior heads, the root under the latest and every kept checkpoint, tiles, erasures, audit records, the log
of logs and each ledger's first entry, cosignatures by the policy and the times that they bound, receipts
that others hold, and checkpoints that were received earlier. Stops at the first fault. By a policy that
came with the export nothing is called witnessed: it is the bank's own word.

Needs Python 3.9 and the package `cryptography`; nothing else of this folder.
"""
import argparse
import base64
import datetime
import hashlib
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

SKEW = 5.0
DASH = "\u2014"


class Refused(Exception):
    """Something does not verify."""


def require(condition, why):
    if not condition:
        raise Refused(why)


# --- bytes and texts ---------------------------------------------------------------------------------
def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_of(entry):
    return sha256(b"\x00" + entry)


def node_of(left, right):
    return sha256(b"\x01" + left + right)


def b64(text):
    return base64.b64decode(text, validate=True)


def b64url(text):
    require(not set("=+/") & set(text), "not base64url")
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    require(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, "not the one way to write it")
    return data


def decimal(text):
    require(text.isascii() and text.isdigit() and str(int(text)) == text, f"not a number: {text!r}")
    return int(text)


def pairs_once(pairs):
    require(len({key for key, _ in pairs}) == len(pairs), "a key stands twice in the JSON")
    return dict(pairs)


def no_float(text):
    raise Refused(f"a number that is no integer: {text}")


def read_json(data):
    text = data.decode()
    return json.loads(text, object_pairs_hook=pairs_once, parse_float=no_float, parse_constant=no_float)


def read_text(file):
    """A text as it stands, no newline translated."""
    data = file.read_bytes()
    require(b"\0" not in data and b"\r" not in data, f"{file.name}: a byte that no such file has")
    return data.decode()


def lines_of(text):
    """Its lines, cut at newlines and at nothing else."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def seconds(text):
    require(len(text) == 24 and text.endswith("Z"), f"not an instant: {text!r}")
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00").timestamp()


# --- keys --------------------------------------------------------------------------------------------
def check(key, signature, message, what):
    require(len(signature) == 64, f"{what}: a signature has 64 bytes")
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused(f"{what}: the signature does not verify") from None


def load_keys(directory, trust):
    """The register, by key id, once the trusted root key is seen to have signed it."""
    data = (directory / "keys.json").read_bytes()
    signature = b64(read_text(directory / "keys.json.sig").removesuffix("\n"))
    keys, roots = {}, []
    wanted = trust.removeprefix("sha256:").lower()
    for record in read_json(data)["keys"]:
        key = record["key"] = ser.load_pem_public_key(record["spki_pem"].encode())
        kind = {"EdDSA": ed25519.Ed25519PublicKey, "ES256": ec.EllipticCurvePublicKey}[record["alg"]]
        require(isinstance(key, kind), "a key is of another algorithm than the register says")
        require(record["kid"] not in keys, "two keys have one id")
        keys[record["kid"]] = record
        form = ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo
        if record["use"] == "root" and sha256(key.public_bytes(*form)).hex() == wanted:
            roots.append(key)
    require(roots, "keys.json names no root key with the trusted fingerprint")
    check(roots[0], signature, data, "keys.json")
    return keys


def covers(record, origin, index):
    return any(
        r["origin"] == origin and r["first_index"] <= index <= r.get("last_index", index)
        for r in record["origins"]
    )


def open_receipt(jws, keys):
    """The payload of a receipt that a receipt key signed inside its range."""
    parts = jws.split(".")
    require(len(parts) == 3, "not a compact JWS")
    header, payload, signature = (b64url(part) for part in parts)
    names = read_json(header)
    require(set(names) == {"alg", "kid", "typ"}, "an unknown header")
    written = '{"alg":"%(alg)s","kid":"%(kid)s","typ":"tulga-receipt+jwt"}' % names
    require(header == written.encode(), "another header than receipts have")
    record = keys.get(names["kid"])
    require(record and record["use"] == "receipt", "the register names no such receipt key")
    allowed = ("ES256",) if record["alg"] == "ES256" else ("EdDSA", "Ed25519")
    require(names["alg"] in allowed, "the header's algorithm is not the key's")
    check(record["key"], signature, f"{parts[0]}.{parts[1]}".encode(), "receipt")
    body = read_json(payload)
    require(body["v"] == 1, "a version that is not known")
    log = body["log"]
    require(covers(record, log["origin"], log["index"]), "the index lies outside the key's range")
    # RFC 3339 in UTC with a fixed number of digits sorts as text.
    require(record["not_before"] <= body["time"], "the time lies before the key's")
    require(body["time"] <= record.get("not_after", body["time"]), "the time lies after the key's")
    return body


# --- notes -------------------------------------------------------------------------------------------
def key_id(name, kind, raw):
    return sha256(name.encode() + b"\n" + bytes([kind]) + raw)[:4]


def raw_key(key):
    return key.public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)


def read_note(note):
    """The text of a note, and its signatures by name and key id."""
    text, blank, block = note.rpartition("\n\n")
    require(blank and block.endswith("\n"), "not a signed note")
    lines = {}
    for line in block[:-1].split("\n"):
        dash, name, value = line.split(" ")
        value = b64(value)
        require(dash == DASH and len(value) > 4, "not a signature line")
        lines.setdefault((name, value[:4]), []).append(value[4:])
    return text + "\n", lines


def open_note(note, keys, place):
    """The lines of a note that a ledger key signed under its name; `place` says where it stands."""
    text, signatures = read_note(note)
    lines = text[:-1].split("\n")
    origin, index = place(lines)
    for record in keys.values():
        if record["use"] != "ledger" or not covers(record, origin, index):
            continue
        mine = signatures.get((origin, key_id(origin, 1, raw_key(record["key"]))), [])
        require(len(mine) < 2, "a key signed twice")
        if mine:
            check(record["key"], mine[0], text.encode(), "checkpoint")
            return lines
    raise Refused(f"no ledger key signed this head of {origin}")


def open_checkpoint(note, keys):
    """Origin, size and root of a checkpoint that its ledger's key signed."""
    def place(lines):
        require(len(lines) == 3, "not a checkpoint")
        return lines[0], max(decimal(lines[1]) - 1, 0)

    origin, size, root = open_note(note, keys, place)
    return origin, int(size), b64(root)


def notes(text):
    """Cuts a file of notes: a note ends with its last signature line."""
    note, signed = "", False
    for line in re.findall("[^\n]*\n|[^\n]+", text):
        is_signature = line.startswith(DASH + " ")
        if signed and not is_signature:
            yield note
            note, signed = "", False
        if note or line != "\n":
            note, signed = note + line, signed or is_signature
    if note:
        yield note


# --- witnesses ---------------------------------------------------------------------------------------
class Policy:
    """c2sp.org/tlog-policy."""

    def __init__(self, text):
        self.logs, self.witnesses, self.groups, self.quorum = {}, {}, {}, None
        members = set()
        for line in lines_of(text):
            words = [word for word in line.replace("\t", " ").split(" ") if word]
            if not words or words[0].startswith("#"):
                continue
            # A ledger and a witness may have a URL behind the key.
            sizes = {"log": (2, 3), "witness": (3, 4), "quorum": (2,)}
            require(len(words) in sizes.get(words[0], (len(words),)), f"a line too long or short: {line!r}")
            known = {**self.witnesses, **self.groups}
            if words[0] == "log":
                name, raw = self.verifier_key(words[1], 1)
                self.logs[name] = raw
            elif words[0] == "witness":
                require(words[1] not in known and words[1] != "none", "a name is defined twice")
                name, raw = self.verifier_key(words[2], 4)
                # One key is one witness, whatever names it goes by.
                require(raw not in [k for _, k in self.witnesses.values()], "a witness's key stands twice")
                self.witnesses[words[1]] = name, raw
            elif words[0] == "group":
                require(len(words) > 3, "a group without members")
                name, some, names = words[1], words[2], words[3:]
                require(name not in known and name != "none", "a name is defined twice")
                once = len(set(names)) == len(names) and not members & set(names)
                require(once and all(n in known for n in names), "bad members")
                members |= set(names)
                count = {"any": 1, "all": len(names)}.get(some) or decimal(some)
                require(1 <= count <= len(names), "a group that cannot be")
                self.groups[name] = count, names
            elif words[0] == "quorum":
                require(self.quorum is None and (words[1] == "none" or words[1] in known), "no quorum")
                self.quorum = words[1]
            else:
                raise Refused(f"not a line of a policy: {line!r}")
        require(self.quorum is not None, "the policy has no quorum")

    @staticmethod
    def verifier_key(text, kind):
        name, wanted, key = text.split("+", 2)
        key = b64(key)
        require(key[0] == kind and len(key) == 33, "a verifier key of another kind")
        require(key_id(name, kind, key[1:]).hex() == wanted, "a verifier key with another id")
        return name, key[1:]

    def cosigned(self, note):
        """When a quorum had cosigned a note (none if it has not), and each witness's time."""
        text, signatures = read_note(note)
        times = {}
        for witness, (name, raw) in self.witnesses.items():
            for signature in signatures.get((name, key_id(name, 4, raw)), []):
                require(len(signature) == 72, f"a malformed cosignature of {name}")
                at = int.from_bytes(signature[:8], "big")
                message = f"cosignature/v1\ntime {at}\n{text}".encode()
                key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
                check(key, signature[8:], message, f"cosignature of {name}")
                times[witness] = min(at, times.get(witness, at))

        def since(name):
            if name in self.witnesses:
                return times.get(name)
            count, names = self.groups[name]
            seen = sorted(t for t in map(since, names) if t is not None)
            return seen[count - 1] if len(seen) >= count else None

        return (None if self.quorum == "none" else since(self.quorum)), set(times.values())


# --- the tree ----------------------------------------------------------------------------------------
class Tree:
    """RFC 6962: all complete subtrees, level by level."""

    def __init__(self):
        self.levels = [[]]

    @property
    def size(self):
        return len(self.levels[0])

    def push(self, leaf):
        level = 0
        self.levels[0].append(leaf)
        while len(self.levels[level]) % 2 == 0:
            if level + 1 == len(self.levels):
                self.levels.append([])
            self.levels[level + 1].append(node_of(*self.levels[level][-2:]))
            level += 1

    def root(self, size):
        require(size <= self.size, f"a head of {size} entries, and there are {self.size}")
        low, parts = 0, []
        for level in reversed(range(size.bit_length())):
            if size & 1 << level:
                parts.append(self.levels[level][low >> level])
                low += 1 << level
        root = parts.pop() if parts else sha256(b"")
        while parts:
            root = node_of(parts.pop(), root)
        return root


def tile_paths(size):
    for level, count in [("entries", size)] + [(l, size >> 8 * l) for l in range(8)]:
        for n in range((count + 255) // 256):
            width = min(256, count - 256 * n)
            yield tile_path(level, n, width)


def tile_path(level, n, width):
    digits = f"{n % 1000:03}"
    while n := n // 1000:
        digits = f"x{n % 1000:03}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{width}" if width < 256 else "")


def check_tiles(directory, tree, size):
    """Every tile that is there is one of this ledger, and none is missing."""
    missing = set(tile_paths(size))
    for file in sorted((directory / "tile").rglob("*")):
        if not file.is_dir():
            path = file.relative_to(directory).as_posix()
            check_tile(path, file, tree)
            missing.discard(path)
    require(not missing, f"{len(missing)} tiles are missing")


def check_tile(path, file, tree):
    named = TILE.fullmatch(path)
    require(named, f"{path} is no tile")
    level, n, width = named[1], int(re.sub("[x/]", "", named[2])), int(named[3] or 256)
    require(tile_path(level, n, width) == path, f"{path} is no tile")
    data = file.read_bytes()
    if level == "entries":
        found = []
        while data:
            length = int.from_bytes(data[:2], "big")
            require(len(data) >= 2 + length, f"{path} is cut off")
            found.append(leaf_of(data[2 : 2 + length]))
            data = data[2 + length :]
        level = 0
    else:
        found = [data[i : i + 32] for i in range(0, len(data), 32)]
    there = tree.levels[8 * int(level)] if 8 * int(level) < len(tree.levels) else []
    is_whole = len(found) == width and found == there[256 * n : 256 * n + width]
    require(is_whole, f"{path} is not of this ledger")


TILE = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


# --- one ledger --------------------------------------------------------------------------------------
class Ledger:
    """One ledger's folder, verified."""

    def __init__(self, directory, name, keys, policy, before):
        self.directory, self.keys, self.policy, self.before = directory, keys, policy, before
        latest = read_text(directory / "checkpoint")
        self.origin, self.closing, root = open_checkpoint(latest, keys)
        require(name in (None, self.origin), f"the folder {name} holds {self.origin}")
        self.heads = [(self.closing, root)]
        self.times, self.seen_at = [], {}
        self.longest_wait, self.unseen_since, self.last_time = 0.0, None, 0.0
        self.look(latest)
        for note in notes(read_text(directory / "checkpoints")):
            origin, size, head = open_checkpoint(note, keys)
            require(origin == self.origin, "a kept checkpoint of another ledger")
            require(size <= self.closing, "a kept checkpoint covers more than the latest")
            self.heads.append((size, head))
            self.look(note)
        self.check_policy()
        self.walk()
        require(self.tree.size == self.closing, f"{self.tree.size} entries, not {self.closing}")
        for size, head in self.heads:
            require(self.tree.root(size) == head, f"the head of {size} entries is of another history")
        if (directory / "tile").exists():
            check_tiles(directory, self.tree, self.closing)

    def look(self, note):
        """Notes what witnesses say of a head."""
        if self.policy:
            size = int(note.split("\n")[1])
            since, times = self.policy.cosigned(note)
            self.seen_at.setdefault(size, set()).update(times)
            if since is not None:
                self.times.append((size, since))

    def check_policy(self):
        if self.policy and self.policy.logs:
            known = [raw_key(k["key"]) for k in self.keys.values() if k["use"] == "ledger"]
            require(self.policy.logs.get(self.origin) in known, "the policy names other ledgers")
        asked = self.policy and self.policy.quorum != "none"
        require(not asked or self.times or not self.closing, "no head has the cosignatures it needs")

    def walk(self):
        self.tree, self.bodies, listed, latest_time = Tree(), {}, {}, 0.0
        erased = read_json((self.directory / "erasures.json").read_bytes())["erased"]
        indices = [e["index"] for e in erased]
        require(indices == sorted(set(indices)), "erasures.json is not in the order of the indices")
        erased = {e["index"]: e for e in erased}
        records = self.directory / "audit"
        records = {decimal(f.name): f for f in records.iterdir()} if records.is_dir() else {}
        rids = set()

        def skip_erased():
            while self.tree.size in erased:
                self.tree.push(b64(erased[self.tree.size]["leaf"]))

        for jws in lines_of(read_text(self.directory / "receipts.jws")):
            skip_erased()
            index = self.tree.size
            body = open_receipt(jws, self.keys)
            log = body["log"]
            require(log["origin"] == self.origin, f"entry {index} is of another ledger")
            require(log["index"] == index, f"entry {index} is missing or out of order")
            require(log["prior_size"] <= index, f"entry {index} names a head of the future")
            prior = self.tree.root(log["prior_size"])
            require(b64(log["prior_root"]) == prior, f"entry {index} names another ledger's head")
            require(body["rid"] not in rids, f"entry {index} repeats an id")
            at = seconds(body["time"])
            require(at >= latest_time - SKEW, f"entry {index} lies before an earlier one")
            latest_time = max(latest_time, at)
            self.check_window(index, at)
            self.check_witnessed(index, log.get("witnessed"))
            self.check_refers(index, body)
            if index in records:
                data = records.pop(index).read_bytes()
                commit = base64.urlsafe_b64encode(sha256(data)).rstrip(b"=").decode()
                require(body.get("audit") == commit, f"the audit record of entry {index} is another")
            rids.add(body["rid"])
            self.bodies[index] = body
            # What an erasure lists of this ledger, and only what stands before it.
            own = [b for b in body.get("bodies", []) if b.get("origin", self.origin) == self.origin]
            listed[index] = [range(b["first"], b["last"] + 1) for b in own if b["last"] < index]
            self.tree.push(leaf_of(b"tulga-receipt-v1\n" + sha256(jws.encode())))
        skip_erased()
        require(not records, "an audit record of no receipt")
        for index, entry in erased.items():
            require(index < self.tree.size, f"erasures.json names entry {index}, which is not there")
            said = any(index in span for span in listed.get(entry["erasure"], []))
            require(said, f"the body of entry {index} is missing and no erasure says so")

    def check_window(self, index, at):
        """The back-dating rule."""
        without = [time for size, time in self.times if size <= index]
        with_it = [time for size, time in self.times if size > index]
        require(not without or at >= max(without) - SKEW, f"entry {index} is back-dated")
        require(not with_it or at <= min(with_it) + SKEW, f"entry {index} is post-dated")
        if with_it:
            self.longest_wait = max(self.longest_wait, min(with_it) - at)
        elif self.unseen_since is None:
            self.unseen_since = at
        self.last_time = at

    def waited(self):
        """How long an entry waited, by its own time, to be seen by witnesses."""
        tail = self.last_time - self.unseen_since if self.unseen_since is not None else 0
        return max(self.longest_wait, tail)

    def check_witnessed(self, index, head):
        if head and self.policy and self.policy.quorum != "none":
            seen = seconds(head["time"]) in self.seen_at.get(head["size"], ())
            require(seen and head["size"] <= index, f"entry {index} names a head nobody witnessed")

    def check_refers(self, index, body):
        named = [body["refers"]] if "refers" in body else []
        for refers in named:
            ledger = self
            if refers.get("origin", self.origin) != self.origin:
                ledger = self.before.get(refers["origin"])
            there = ledger and refers["index"] < ledger.tree.size
            there = there and ledger.bodies.get(refers["index"], refers)["rid"] == refers["rid"]
            require(there, f"entry {index} refers to what is not there")

    def shard_digest(self):
        root = base64.b64encode(self.tree.root(self.tree.size)).decode()
        entry = f"tulga-shard-v1\n{self.origin}\n{self.tree.size}\n{root}\n"
        return entry.encode()


# --- all ledgers -------------------------------------------------------------------------------------
def open_log_of_logs(note, keys):
    """The closed ledgers that a log of logs lists: origin, size and root of each."""
    def place(lines):
        require(lines[0].endswith("/log-of-logs"), "not a log of logs")
        return lines[0], max(decimal(lines[1]) - 1, 0)

    lines = open_note(note, keys, place)
    closed = [line.split(" ") for line in lines[3:]]
    require(len(closed) == int(lines[1]), "the log of logs has another length")
    tree = Tree()
    for origin, size, root in closed:
        tree.push(leaf_of(f"tulga-shard-v1\n{origin}\n{decimal(size)}\n{root}\n".encode()))
    require(tree.root(tree.size) == b64(lines[2]), "the log of logs has another root")
    return [(origin, int(size), b64(root)) for origin, size, root in closed]


def check_chain(ledgers, closed):
    """The ledgers, in their order, are all there and follow each other."""
    for origin, size, root in closed:
        require(origin in ledgers, f"the closed ledger {origin} is missing")
        tree = ledgers[origin].tree
        require(tree.size == size and tree.root(size) == root, f"{origin} was closed otherwise")
    names = [origin for origin, _, _ in closed]
    is_open = [origin for origin in ledgers if origin not in names]
    require(len(is_open) == 1, "not exactly one ledger is open")
    before = None
    for origin in names + is_open:
        first = ledgers[origin].bodies.get(0, {})
        opens = first.get("kind") == "administration" and first.get("act") == "ledger_opened"
        if before is None:
            require(not opens or "subject" not in first, f"the ledger before {origin} is missing")
        else:
            digest = "sha-256:" + sha256(before.shard_digest()).hex()
            follows = opens and first.get("subject") == before.origin
            require(follows and first.get("details") == digest, f"{origin} follows another ledger")
        before = ledgers[origin]


def find_ledgers(directory):
    """Every folder with a ledger; its name is that of the ledger, or none at the top."""
    found = {}
    for file in directory.rglob("receipts.jws"):
        name = file.parent.relative_to(directory).as_posix()
        found[None if name == "." else name] = file.parent
    require(found, "there is no ledger")
    return found


def check_held(directory, keys, ledgers):
    for file in sorted(directory.iterdir()):
        for jws in lines_of(read_text(file)):
            log = open_receipt(jws, keys)["log"]
            ledger = ledgers.get(log["origin"])
            require(ledger and log["index"] < ledger.tree.size, f"{file.name}: not in the ledger")
            leaf = leaf_of(b"tulga-receipt-v1\n" + sha256(jws.encode()))
            require(ledger.tree.levels[0][log["index"]] == leaf, f"{file.name}: another entry")
            prior = ledger.tree.root(log["prior_size"])
            require(prior == b64(log["prior_root"]), f"{file.name}: of another history")


def check_earlier(file, keys, ledgers, closed):
    for note in notes(read_text(file)):
        if note.split("\n")[0].endswith("/log-of-logs"):
            earlier = open_log_of_logs(note, keys)
            require(closed[: len(earlier)] == earlier, "the earlier log of logs is of another history")
            continue
        origin, size, root = open_checkpoint(note, keys)
        require(origin in ledgers, f"the earlier checkpoint's ledger {origin} is missing")
        tree = ledgers[origin].tree
        require(size <= tree.size, f"the earlier checkpoint covers {size} entries, there are fewer")
        require(tree.root(size) == root, "the earlier checkpoint is of another history")


def verify(directory, trust, held=None, earlier=None, policy=None, bound=None):
    keys = load_keys(directory, trust)
    policy = policy or next((p for p in [directory / "policy"] if p.exists()), None)
    policy = Policy(read_text(policy)) if policy else None
    log_of_logs = directory / "log-of-logs"
    closed = open_log_of_logs(read_text(log_of_logs), keys) if log_of_logs.exists() else []
    names = [origin for origin, _, _ in closed]
    found = find_ledgers(directory)
    order = sorted(found, key=lambda n: (names.index(n) if n in names else len(names), n or ""))
    ledgers = {}
    for name in order:
        ledger = Ledger(found[name], name, keys, policy, ledgers)
        require(ledger.origin not in ledgers, f"two folders hold {ledger.origin}")
        ledgers[ledger.origin] = ledger
    check_chain(ledgers, closed)
    asked = policy and policy.quorum != "none"
    for origin, ledger in ledgers.items() if asked else ():
        witnessed = max((size for size, _ in ledger.times), default=0)
        require(origin not in names or witnessed == ledger.closing, f"{origin}'s end is unwitnessed")
        soon = bound is None or ledger.waited() <= bound + SKEW
        require(soon, f"an entry of {origin} waited {ledger.waited():.0f} s for witnesses")
    if held:
        check_held(held, keys, ledgers)
    if earlier:
        check_earlier(earlier, keys, ledgers, closed)
    return ledgers


def policy_note(given, ledgers):
    """Where the policy came from, and what it is worth."""
    policy = next(iter(ledgers.values())).policy
    if policy is None:
        return "policy: none, so nothing is said of witnesses"
    if given is None:
        return "policy: the export's own, which is the bank's word; give another with --policy"
    if policy.quorum == "none":
        return f"policy: {given}, which asks for no witnesses"
    return f"policy: {given}: each closed ledger's end and a head of the open one are witnessed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("trust")
    for name in ("--held", "--earlier", "--policy"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--bound", type=int, help="seconds that witnesses may take")
    args = parser.parse_args()
    try:
        ledgers = verify(args.dir, args.trust, args.held, args.earlier, args.policy, args.bound)
    except (Refused, ValueError, KeyError, OSError) as why:
        sys.exit(f"REFUSED: {why!r}" if isinstance(why, (KeyError, OSError)) else f"REFUSED: {why}")
    entries = sum(ledger.tree.size for ledger in ledgers.values())
    heads = sum(len(ledger.heads) - 1 for ledger in ledgers.values())
    print(policy_note(args.policy, ledgers), file=sys.stderr)
    print(f"ok: {entries} entries in {len(ledgers)} ledgers, {heads} kept checkpoints")


if __name__ == "__main__":
    main()
