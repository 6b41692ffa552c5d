#!/usr/bin/env python3
"""A terminal in another language that seals its captures to the gateway (HPKE, RFC 9180).

    seal.py PROTO_DIR HOST:PORT DATA_DIR DEMO_DIR ISSUER

Enrols a person, registers a terminal, verifies that the key it is given is vouched for by the register of keys in
DATA_DIR, seals a picture to it, and is approved; what is altered or sealed for another call is refused. Needs
Python 3.9 and the packages `grpcio`, `grpcio-tools` and `cryptography` (50 or later, for HPKE).
"""
import hashlib
import json
import pathlib
import sys

import grpc
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import x25519

import client

TERMINAL = "ATM-SEALS"
SUITE = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305"


def fields(*all_fields):
    """Each field behind its length as eight big-endian bytes."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in all_fields)


def begin(pb, service, transaction_id):
    messages, common = pb["verification"], pb["common"]
    return service.BeginCapture(messages.BeginCaptureRequest(
        customer=common.CustomerReference(card_token=client.CARD),
        transaction=common.Transaction(
            host_transaction_id=transaction_id, business_date=client.TODAY,
            operation=common.OPERATION_WITHDRAWAL, amount_minor=client.AMOUNT_MINOR, currency="KZT",
            account_currency="KZT", account=client.ACCOUNT,
        ),
        modality=common.MODALITY_FACE,
        holder_verification=common.HOLDER_VERIFICATION_CARD_AND_PIN, language="kk",
    ))


def vouched_for(key, register, issuer):
    """The public key, if a receipt key of the register signed it."""
    record = next(k for k in register["keys"] if k["kid"] == key.signed_by and k["use"] == "receipt")
    client.require(record["status"] == "active", "a key that counts no more signed it")
    signer = serialization.load_pem_public_key(record["spki_pem"].encode())
    until = key.seal_until.unix_ms.to_bytes(8, "big", signed=True)
    signer.verify(key.signature, fields(
        b"tulga-capture-key-v1", issuer.encode(), SUITE.encode(), key.key_id.encode(), key.public_key, until))
    return x25519.X25519PublicKey.from_public_bytes(key.public_key)


def seal(opened, public_key, image, place=0):
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    info = fields(
        b"tulga-sealed-capture-v1", opened.challenge, hashlib.sha256(opened.SerializeToString()).digest(),
        TERMINAL.encode(), opened.capture_key.key_id.encode(), b"", place.to_bytes(8, "big"))
    return suite.encrypt(image, public_key, info)


def verify(pb, service, transaction_id, opened, sealed):
    messages = pb["verification"]
    picture = messages.SealedImage(key_id=opened.capture_key.key_id, sealed=sealed)
    return service.Verify(messages.VerifyRequest(
        challenge=opened.challenge, host_transaction_id=transaction_id, business_date=client.TODAY,
        attempt=1, capture=messages.Capture(sealed=picture), language="kk"))


def refused(pb, service, transaction_id, opened, sealed):
    try:
        verify(pb, service, transaction_id, opened, sealed)
    except grpc.RpcError as error:
        client.require(error.code() == grpc.StatusCode.FAILED_PRECONDITION, error.code())
        return
    client.require(False, "what should not open did")


def main(proto_dir, address, data_dir, demo_dir, issuer):
    pb = client.compile_protos(proto_dir)
    data, demo = pathlib.Path(data_dir), pathlib.Path(demo_dir)
    gateway = client.Gateway(address, (data / "pki/ca.pem").read_bytes())
    clients = data / "pki/clients"
    client.enroll(pb, gateway.connect_as(clients, "enroller"), demo)
    admin = gateway.connect_as(clients, "admin")
    terminal = client.register_terminal(pb, admin, gateway, TERMINAL)
    service = pb["verification_rpc"].VerificationServiceStub(terminal)
    image = (demo / "obama2.jpg").read_bytes()
    register = json.loads((data / "keys.json").read_text())

    opened = begin(pb, service, "T1")
    public_key = vouched_for(opened.capture_key, register, issuer)
    sealed = seal(opened, public_key, image)
    refused(pb, service, "T1", opened, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    refused(pb, service, "T1", opened, seal(opened, public_key, image, place=1))
    refused(pb, service, "T1", opened, seal(begin(pb, service, "T2"), public_key, image))
    decision = verify(pb, service, "T1", opened, sealed)
    approved = pb["common"].OUTCOME_APPROVED
    client.require(decision.outcome == approved, f"the sealed capture was not approved: {decision.reasons}")
    print("ok: a sealed capture was approved")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
