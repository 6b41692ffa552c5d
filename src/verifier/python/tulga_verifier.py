"""What the bank's host asks before it authorises cash, in Python.

Written anew from docs/receipt-format.md: no code is shared with the gateway or with its Rust and C
verifiers. Needs Python 3.9 and the package `cryptography`.

    verifier = HostVerifier(keys_json, keys_signature, trust, "host.bank.example", SqliteTable("redeemed.db"))
    authorised = verifier.verify(jws, salt, demand, now_ms)   # raises Refused

`verify` returns once for a receipt. Whatever it raises means: do not authorise.
"""
import base64
import binascii
import dataclasses
import datetime
import hashlib
import hmac
import json
import re
import sqlite3
import threading

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

SKEW_MS = 5_000
# How long after its time a receipt may say that it can be acted on; gateways write 90 seconds.
VALID_FOR_MAX_MS = 300_000
KEPT_AFTER_MS = 24 * 60 * 60 * 1000
JWS_BYTES_MAX = 16 * 1024
REGISTER_BYTES_MAX = 4 * 1024 * 1024

_HEADER = re.compile(
    rb'\{"alg":"(EdDSA|Ed25519|ES256)","kid":"([A-Za-z0-9._-]{1,64})","typ":"tulga-receipt\+jwt"\}'
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Refused(Exception):
    """The host must not authorise; `code` is for machines, the text for a log."""

    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Demand:
    """What the host is about to do, as it knows it itself: nothing of it comes from the receipt."""

    host_transaction_id: str
    business_date: str  # YYYY-MM-DD
    attempt: int  # from 1
    account: str
    terminal: str
    operation: str  # cash_withdrawal, cash_deposit, third_party_deposit
    amount_minor: int
    currency: str  # ISO 4217
    counterparty: str = ""


@dataclasses.dataclass(frozen=True)
class Authorised:
    """The host may let this amount move, now and once."""

    amount_minor: int
    amount_max_minor: int
    receipt: dict


class MemoryTable:
    """Redeemed receipts until the process ends."""

    def __init__(self):
        self._until = {}
        self._lock = threading.Lock()

    def redeem(self, key, until_ms, now_ms):
        """True the first time, for good, and False ever after."""
        with self._lock:
            self._until = {k: u for k, u in self._until.items() if u + KEPT_AFTER_MS >= now_ms}
            if key in self._until:
                return False
            self._until[key] = until_ms
            return True


class SqliteTable:
    """Redeemed receipts in a file, which several processes may share."""

    def __init__(self, path):
        self._path = str(path)
        with self._open() as database:
            database.execute(
                "create table if not exists redeemed (key blob primary key, until_ms integer not null)"
            )

    def redeem(self, key, until_ms, now_ms):
        """True the first time, for good, and False ever after."""
        with self._open() as database:
            database.execute("delete from redeemed where until_ms < ?", (now_ms - KEPT_AFTER_MS,))
            done = database.execute(
                "insert into redeemed values (?, ?) on conflict do nothing", (key, until_ms)
            )
            return done.rowcount == 1

    def _open(self):
        return _Transaction(self._path)


class _Transaction:
    """One transaction on a connection of its own, on the disk before it is over."""

    def __init__(self, path):
        self._database = sqlite3.connect(path, timeout=10, isolation_level=None)

    def __enter__(self):
        self._database.execute("pragma synchronous = full")
        self._database.execute("begin immediate")
        return self._database

    def __exit__(self, kind, fault, trace):
        try:
            self._database.execute("rollback" if kind else "commit")
        finally:
            self._database.close()


class HostVerifier:
    """Verifies receipts for the host that they call `audience`."""

    def __init__(self, keys_json, keys_signature, trust, audience, table):
        self._trust = trust.removeprefix("sha256:").lower()
        self._audience = audience
        self._table = table
        self.replace_register(keys_json, keys_signature)

    def replace_register(self, keys_json, keys_signature):
        """Takes a newer register after a rotation of keys; if it raises, the old one stays."""
        self._keys = read_register(keys_json, keys_signature, self._trust)

    def verify(self, jws, salt, demand, now_ms):
        """The Authorised of a receipt for this demand at the host's own clock; Refused otherwise."""
        keys = self._keys
        body = read_receipt(jws, keys)
        # What a revoked key signed stays valid for auditors, who see the ledger; a host does not.
        _need(_status(jws, keys) in ("active", "retired"), "HOST_REVOKED", "its key is revoked")
        _need(body["kind"] in ("verification", "exception"), "HOST_KIND", "it is not of a decision")
        _need(body.get("aud") == self._audience, "HOST_AUDIENCE", "it is for another host")
        until_ms = _instant(body["valid_until"]) if "valid_until" in body else -1
        _need(now_ms <= until_ms, "HOST_EXPIRED", "it may not be acted on any more")
        time_ms = _instant(body["time"])
        _need(time_ms - now_ms <= SKEW_MS, "HOST_NOT_YET", "its time lies ahead of the host's clock")
        _need(until_ms - time_ms <= VALID_FOR_MAX_MS, "HOST_TOO_LONG", "it may be acted on for too long")
        txn = body["txn"]
        opened = commitment(salt, demand)
        _need(hmac.compare_digest(opened, txn["commit"]), "HOST_COMMITMENT", "it does not open")
        for name, said, asked in (
            ("terminal", body["terminal"]["id"], demand.terminal),
            ("operation", txn["op"], demand.operation),
            ("currency", txn["currency"], demand.currency),
        ):
            _need(said == asked, "HOST_TRANSACTION", f"it is for another {name}")
        amount_max = _amount_max(body)
        _need(1 <= demand.amount_minor <= amount_max, "HOST_AMOUNT", "it approves less")
        # The issuer and the id, not the bytes: of one ECDSA signature another can be made.
        key = _sha256(_prefixed(b"tulga-redeemed-v1", body["iss"].encode(), body["rid"].encode()))
        try:
            is_first = self._table.redeem(key, until_ms, now_ms)
        except (OSError, sqlite3.Error) as fault:
            raise Refused("HOST_TABLE", f"what was redeemed cannot be written down: {fault}") from fault
        _need(is_first, "HOST_REDEEMED", "it was acted on before")
        return Authorised(demand.amount_minor, amount_max, body)


def commitment(salt, demand):
    """What `txn.commit` must be."""
    _need(isinstance(salt, bytes) and len(salt) == 32, "HOST_COMMITMENT", "a salt has 32 bytes")
    fields = (
        demand.host_transaction_id,
        demand.business_date,
        str(demand.attempt),
        demand.account,
        demand.counterparty,
    )
    digest = _sha256(_prefixed(salt, *(field.encode() for field in fields)))
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def read_register(keys_json, keys_signature, trust):
    """The keys by their ids, once the trusted root key is seen to have signed the register."""
    code = "KEY_REGISTER"
    _need(len(keys_json) <= REGISTER_BYTES_MAX, code, "the register is too long")
    keys = {}
    for record in _json(keys_json, code).get("keys", []):
        key = serialization.load_pem_public_key(record["spki_pem"].encode())
        is_ed = isinstance(key, ed25519.Ed25519PublicKey)
        is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
        _need(record["alg"] in {"EdDSA": is_ed, "ES256": is_p256}, code, "an unknown algorithm")
        _need({"EdDSA": is_ed, "ES256": is_p256}[record["alg"]], code, "a key of another kind")
        _need(record["kid"] not in keys, code, "two keys have one id")
        keys[record["kid"]] = {**record, "key": key}
    roots = [it for it in keys.values() if it["use"] == "root" and _fingerprint(it["key"]) == trust]
    _need(roots, "KEY_UNTRUSTED", "no root key has the trusted fingerprint")
    signature = _decode(keys_signature.removesuffix("\n"), base64.standard_b64encode, "KEY_UNTRUSTED")
    _need(_is_signed(roots[0], keys_json, signature), "KEY_UNTRUSTED", "the root key did not sign it")
    return keys


def read_receipt(jws, keys):
    """The payload of a receipt that a receipt key signed where and when it might."""
    _need(len(jws) <= JWS_BYTES_MAX and jws.count(".") == 2, "RCP_MALFORMED", "not a compact JWS")
    header, payload, signature = (_decode64url(part) for part in jws.split("."))
    found = _HEADER.fullmatch(header)
    _need(found, "RCP_MALFORMED", "the header is not one that receipts have")
    body = _json(payload, "RCP_MALFORMED")
    record = keys.get(found[2].decode())
    _need(record and record["use"] == "receipt", "RCP_KEY", "no such receipt key in the register")
    # Which algorithm a key has the register says, and not the header.
    said = "EdDSA" if found[1] == b"Ed25519" else found[1].decode()
    _need(said == record["alg"], "RCP_KEY", "the header names another algorithm than the register")
    signed = jws.rsplit(".", 1)[0].encode()
    _need(_is_signed(record, signed, signature), "RCP_SIGNATURE", "the signature does not verify")
    _need(body.get("v") == 1, "RCP_UNKNOWN_KIND", "an unknown version")
    log = body["log"]
    in_range = any(
        it["origin"] == log["origin"] and it["first_index"] <= log["index"] <= it.get("last_index", log["index"])
        for it in record["origins"]
    )
    _need(in_range, "RCP_KEY_RANGE", "the index lies outside the key's range")
    time = _instant(body["time"])
    from_ms, to_ms = _instant(record["not_before"]), record.get("not_after")
    in_time = from_ms <= time and (to_ms is None or time <= _instant(to_ms))
    _need(in_time, "RCP_KEY_RANGE", "the time lies outside the key's validity")
    return body


def _status(jws, keys):
    """What the register says of the key that signed a receipt, which was read before."""
    kid = _HEADER.fullmatch(_decode64url(jws.split(".")[0]))[2].decode()
    return keys[kid].get("status")


def _amount_max(body):
    amount, cap = body["txn"]["amount_minor"], body.get("cap")
    if body["outcome"] == "APPROVED" and cap is None:
        return amount
    _need(body["outcome"] == "APPROVED_CAPPED" and cap, "HOST_OUTCOME", "it does not approve")
    return min(cap["amount_minor"], amount)


def _is_signed(record, message, signature):
    try:
        if record["alg"] == "EdDSA":
            record["key"].verify(signature, message)
        else:
            _need(len(signature) == 64, "RCP_SIGNATURE", "a signature has 64 bytes")
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            der = utils.encode_dss_signature(r, s)
            record["key"].verify(der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _fingerprint(key):
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(*form)).hexdigest()


def _json(data, code):
    """An object of JSON in which nothing can be said twice: no key twice, no float, no null."""

    def once(pairs):
        members = dict(pairs)
        if len(members) != len(pairs) or None in members.values():
            raise ValueError("a key stands twice, or null")
        return members

    def never(text):
        raise ValueError(f"{text} is no integer")

    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=once, parse_float=never, parse_constant=never
        )
    except (ValueError, RecursionError) as fault:
        raise Refused(code, f"not strict JSON: {fault}") from fault
    _need(isinstance(found, dict), code, "not an object")
    return found


def _instant(text):
    """Milliseconds since 1970 of an instant as receipts write it."""
    _need(isinstance(text, str) and _INSTANT.fullmatch(text), "RCP_MALFORMED", "not an instant")
    try:
        whole = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError as fault:
        raise Refused("RCP_MALFORMED", "not an instant") from fault
    return (whole.replace(tzinfo=datetime.timezone.utc) - _EPOCH) // datetime.timedelta(milliseconds=1)


def _decode64url(text):
    padded = text + "=" * (-len(text) % 4)
    return _decode(padded, base64.urlsafe_b64encode, "RCP_MALFORMED")


def _decode(text, encode, code):
    """Bytes of base64 in the one way to write it: what they encode to must be the text again."""
    try:
        data = base64.b64decode(text.translate(_TO_STANDARD) if encode is base64.urlsafe_b64encode else text)
    except (binascii.Error, ValueError) as fault:
        raise Refused(code, "not base64") from fault
    _need(encode(data).decode() == text, code, "not base64 in its one form")
    return data


_TO_STANDARD = str.maketrans("-_+/", "+/!!")


def _prefixed(*fields):
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def _sha256(data):
    return hashlib.sha256(data).digest()


def _need(condition, code, why):
    if not condition:
        raise Refused(code, why)
