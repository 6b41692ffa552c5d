#!/usr/bin/env python3
"""Verifies one receipt with its proof, sharing no code with the gateway.

    verify_receipt.py RECEIPT PROOF KEYS_DIR TRUST

RECEIPT is a compact JWS, PROOF a c2sp.org/tlog-proof@v1, KEYS_DIR holds keys.json and keys.json.sig,
TRUST is the published fingerprint of the root key. Needs Python 3.9 and the package `cryptography`.
"""
import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


class Refused(Exception):
    """Something does not verify."""


def require(condition, why):
    if not condition:
        raise Refused(why)


def sha256(data):
    return hashlib.sha256(data).digest()


def b64(text):
    return base64.b64decode(text, validate=True)


def b64url(text):
    require("=" not in text and "+" not in text and "/" not in text, "not base64url")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    require(len(keys) == len(set(keys)), "a key stands twice in the JSON")
    return dict(pairs)


def read_json(data):
    return json.loads(data, object_pairs_hook=no_duplicates)


def check(public_key, signature, message, what):
    require(len(signature) == 64, f"{what}: the signature does not verify")
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(signature, message)
        else:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            public_key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused(f"{what}: the signature does not verify") from None


def load_keys(directory, trust):
    """The register, by key id, once the trusted root key is seen to have signed it."""
    directory = pathlib.Path(directory)
    data = (directory / "keys.json").read_bytes()
    signature = b64((directory / "keys.json.sig").read_text().strip())
    keys = {}
    for record in read_json(data)["keys"]:
        record["key"] = ser.load_pem_public_key(record["spki_pem"].encode())
        require(record["kid"] not in keys, "two keys have one id")
        kind = {"EdDSA": ed25519.Ed25519PublicKey, "ES256": ec.EllipticCurvePublicKey}[record["alg"]]
        require(isinstance(record["key"], kind), "a key is not of its algorithm")
        keys[record["kid"]] = record

    def fingerprint(key):
        form = ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo
        return sha256(key.public_bytes(*form)).hex()

    wanted = trust.removeprefix("sha256:").lower()
    roots = [r["key"] for r in keys.values() if r["use"] == "root" and fingerprint(r["key"]) == wanted]
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
    header = read_json(header)
    require(set(header) == {"alg", "kid", "typ"}, "an unknown header")
    require(header["typ"] == "tulga-receipt+jwt", "not a receipt")
    record = keys.get(header["kid"])
    require(record and record["use"] == "receipt", "the register names no such receipt key")
    names = {"EdDSA": ("EdDSA", "Ed25519"), "ES256": ("ES256",)}[record["alg"]]
    require(header["alg"] in names, "not the key's algorithm")
    check(record["key"], signature, f"{parts[0]}.{parts[1]}".encode(), "receipt")
    body = read_json(payload)
    log = body["log"]
    require(covers(record, log["origin"], log["index"]), "the index lies outside the key's range")
    # RFC 3339 in UTC with a fixed number of digits sorts as text.
    require(record["not_before"] <= body["time"], "the time lies before the key's")
    require(body["time"] <= record.get("not_after", body["time"]), "the time lies after the key's")
    return body


def open_checkpoint(note, keys, origin):
    """Size and root of a checkpoint that a ledger key signed for this origin."""
    text, signatures = note.split("\n\n")
    text += "\n"
    named, size, root = text.split("\n")[:3]
    require(named == origin and text.count("\n") == 3, "a checkpoint of another ledger")
    size, root = int(size), b64(root)
    for record in keys.values():
        if record["use"] != "ledger" or not covers(record, origin, max(size - 1, 0)):
            continue
        raw = record["key"].public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)
        key_id = sha256(origin.encode() + b"\n\x01" + raw)[:4]
        for line in signatures.splitlines():
            dash, name, value = line.split(" ")
            value = b64(value)
            if dash == "\u2014" and name == origin and value[:4] == key_id:
                check(record["key"], value[4:], text.encode(), "checkpoint")
                return size, root
    raise Refused("no ledger key signed the checkpoint")


def leaf_hash(jws):
    return sha256(b"\x00tulga-receipt-v1\n" + sha256(jws.encode()))


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def check_inclusion(leaf, index, size, path, root):
    """RFC 9162, section 2.1.3.2."""
    require(index < size, "the index lies outside the checkpoint")
    at, last, value = index, size - 1, leaf
    for sibling in path:
        require(last > 0, "the path is too long")
        if at & 1 or at == last:
            value = node_hash(sibling, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        at, last = at >> 1, last >> 1
    require(last == 0 and value == root, "the receipt is not in the ledger at that place")


def verify(jws, proof, keys):
    """The payload, and the size of the checkpoint that covers it."""
    body = open_receipt(jws, keys)
    head, note = proof.split("\n\n", 1)
    mark, index, *path = head.split("\n")
    require(mark == "c2sp.org/tlog-proof@v1", "not a tlog-proof")
    index = int(index.removeprefix("index "))
    require(index == body["log"]["index"], "a proof of another index")
    size, root = open_checkpoint(note, keys, body["log"]["origin"])
    check_inclusion(leaf_hash(jws), index, size, [b64(line) for line in path], root)
    return body, size


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    receipt, proof, keys_dir, trust = sys.argv[1:]
    try:
        keys = load_keys(keys_dir, trust)
        jws = pathlib.Path(receipt).read_text().strip()
        body, size = verify(jws, pathlib.Path(proof).read_text(), keys)
    except (Refused, ValueError, KeyError) as why:
        sys.exit(f"REFUSED: {why}")
    print(f"ok: receipt {body['rid']} ({body['kind']}) is entry {body['log']['index']} of {size}")


if __name__ == "__main__":
    main()
