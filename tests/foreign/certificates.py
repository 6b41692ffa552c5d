#!/usr/bin/env python3
"""Certificates that must open nothing, made and shown by a client that shares no code with the gateway.

    certificates.py HOST:PORT PKI_DIR TERMINAL_ID

PKI_DIR is a development PKI: ca.pem, ca.key, and clients/ROLE-NAME.pem and .key. TERMINAL_ID is a
registered terminal with a certificate there; it is revoked in the end. Needs Python 3.9 and the packages
`grpcio` and `cryptography`.
"""
import datetime
import pathlib
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIST_TERMINALS = "/tulga.v1.TerminalService/ListTerminals"
REVOKE_TERMINAL = "/tulga.v1.TerminalService/RevokeTerminal"
GET_TIME = "/tulga.v1.VerificationService/GetTime"
TENANT = "dev"
ADMIN = f"spiffe://{TENANT}/admin/dev"
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
UNKNOWN = ("UNAUTHENTICATED", "DEV_UNKNOWN")
NOT_ALLOWED = ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
# The handshake fails: the connection ends before there is a status of the gateway's.
NO_HANDSHAKE = ("UNAVAILABLE", None)
GOOD = ("OK", None)


def pem_of(key):
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


class Authority:
    """A certificate that signs others, with its key."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key

    @classmethod
    def read(cls, pki, certificate, key):
        return cls(
            x509.load_pem_x509_certificate((pki / certificate).read_bytes()),
            ser.load_pem_private_key((pki / key).read_bytes(), None),
        )

    @classmethod
    def made(cls, name):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def issue(self, names, begins=NOW - DAY, ends=NOW + DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH,
              key=None, common_name="dev", more=None):
        """A certificate for a client and its key, PEM; without a SAN where `names` is None."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if more is not None:
            builder = builder.add_extension(more, critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(ser.Encoding.PEM), pem_of(key)


def uri(text):
    return x509.UniformResourceIdentifier(text)


class Gateway:
    """The gateway as its callers see it."""

    def __init__(self, address, authority_pem):
        self.address, self.authority_pem = address, authority_pem

    def connect(self, certificate=None, key=None):
        credentials = grpc.ssl_channel_credentials(self.authority_pem, key, certificate)
        # No session and no connection of another certificate is used again.
        options = [
            ("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1),
        ]
        return grpc.secure_channel(self.address, credentials, options)


def call(channel, method, request=b""):
    """What comes of a call: the status, and the reason in its details where there is one."""
    stub = channel.unary_unary(method, lambda raw: raw, lambda raw: raw)
    try:
        stub(request, timeout=20)
        return GOOD
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        known = [reason for reason in ("DEV_UNKNOWN", "ROLE_NOT_ALLOWED") if reason.encode() in details]
        return error.code().name, known[0] if known else None


def cases(ours, terminal, registered):
    """What is shown, and what must come of it; `registered` is the key of an administrator who is."""
    name = ours.certificate.subject
    self_signed = Authority.made(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")]))
    foreign = Authority.made(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another authority")]))
    namesake = Authority.made(name)
    unheard_of = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    fake, fake_key = terminal.issue([uri(ADMIN)])
    chained = fake + terminal.certificate.public_bytes(ser.Encoding.PEM)
    yield "an administrator", ours.issue([uri(ADMIN)], key=registered), GOOD
    yield "an administrator whom nobody registered", ours.issue([uri(ADMIN)]), UNKNOWN
    yield "nobody", (None, None), UNKNOWN
    for role in ("auditor", "enroller", "host", "terminal", "policy-author"):
        yield f"the role {role}", ours.issue([uri(f"spiffe://{TENANT}/{role}/dev")]), NOT_ALLOWED
    yield "expired", ours.issue([uri(ADMIN)], begins=NOW - 9 * DAY, ends=NOW - DAY), NO_HANDSHAKE
    yield "not valid yet", ours.issue([uri(ADMIN)], begins=NOW + DAY, ends=NOW + 9 * DAY), NO_HANDSHAKE
    yield "another authority's", foreign.issue([uri(ADMIN)]), NO_HANDSHAKE
    yield "a namesake's", namesake.issue([uri(ADMIN)]), NO_HANDSHAKE
    pem = self_signed.certificate.public_bytes(ser.Encoding.PEM)
    yield "self-signed", (pem, pem_of(self_signed.key)), NO_HANDSHAKE
    yield "signed by a terminal", (chained, fake_key), NO_HANDSHAKE
    server = ExtendedKeyUsageOID.SERVER_AUTH
    yield "made for servers", ours.issue([uri(ADMIN)], usage=server), NO_HANDSHAKE
    yield "with a critical unknown", ours.issue([uri(ADMIN)], more=unheard_of), NO_HANDSHAKE
    short = rsa.generate_private_key(65537, 1024)
    yield "RSA of 1024 bits", ours.issue([uri(ADMIN)], key=short), NO_HANDSHAKE
    for what, names in names_that_say_nobody():
        yield what, ours.issue(names, key=registered, common_name="admin"), UNKNOWN


def names_that_say_nobody():
    terminal = f"spiffe://{TENANT}/terminal/ATM-1"
    yield "a common name alone", None
    yield "two URIs", [uri(ADMIN), uri(terminal)]
    yield "two URIs in the other order", [uri(terminal), uri(ADMIN)]
    yield "one URI twice", [uri(ADMIN), uri(ADMIN)]
    yield "a DNS name that looks like it", [x509.DNSName(ADMIN)]
    yield "a mailbox that looks like it", [x509.RFC822Name(f"admin@{TENANT}")]
    yield "a registered id", [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]
    for text in (
        "spiffe://other-bank/admin/dev", f"spiffe://{TENANT.upper()}/admin/dev",
        f"spiffe://{TENANT}/Admin/dev", f"spiffe://{TENANT}/ADMIN/dev", f"SPIFFE://{TENANT}/admin/dev",
        f"spiffe://{TENANT}/admin/x/../terminal/y", f"spiffe://{TENANT}/terminal/../admin/dev",
        f"spiffe://{TENANT}/./admin/dev", f"spiffe://{TENANT}/admin/dev/", f"spiffe://{TENANT}//admin/dev",
        f"spiffe://{TENANT}/admin", f"spiffe://{TENANT}/admin/", f"spiffe:///admin/dev",
        f"spiffe://{TENANT}/%61dmin/dev", f"spiffe://{TENANT}/admin%2Fdev", f"spiffe://{TENANT}%2Fadmin/dev",
        f"spiffe://{TENANT}/admin/dev%00", f"spiffe://{TENANT}/admin/dev\x00.example",
        f"spiffe://{TENANT}/admin/dev?role=admin", f"spiffe://{TENANT}/admin/dev#x",
        f"spiffe://admin@{TENANT}/admin/dev", f"spiffe://{TENANT}:7443/admin/dev",
        f" {ADMIN}", f"{ADMIN} ", f"{ADMIN}\n", f"https://{TENANT}/admin/dev", f"{TENANT}/admin/dev",
        f"spiffe://{TENANT}/root/dev", f"spiffe://{TENANT}/admin/{'x' * 65}", "",
    ):
        yield f"the URI {text!r}", [uri(text)]


def revoked(gateway, ours, pki, terminal_id, registered, faults):
    """A terminal's certificate works until the register says no more, on open connections too."""
    def expect(what, got, expected):
        if got != expected:
            faults.append(f"{what}: {got}, and not {expected}")

    read = lambda end: (pki / "clients" / f"terminal-{terminal_id}.{end}").read_bytes()
    certificate, key = read("pem"), read("key")
    open_before = gateway.connect(certificate, key)
    expect("a registered terminal", call(open_before, GET_TIME), GOOD)
    same_name = ours.issue([uri(f"spiffe://{TENANT}/terminal/{terminal_id}")])
    expect("its name with another key", call(gateway.connect(*same_name), GET_TIME), UNKNOWN)
    same_key = ours.issue(
        [uri(f"spiffe://{TENANT}/terminal/ATM-OTHER")], key=ser.load_pem_private_key(key, None))
    expect("its key with another name", call(gateway.connect(*same_key), GET_TIME), UNKNOWN)
    expect("a terminal that revokes", call(open_before, REVOKE_TERMINAL), NOT_ALLOWED)
    # Field 1 of the message: the terminal's name.
    name = terminal_id.encode()
    admin = gateway.connect(*ours.issue([uri(ADMIN)], key=registered))
    expect("the revocation", call(admin, REVOKE_TERMINAL, bytes([10, len(name)]) + name), GOOD)
    expect("a revoked terminal, connected before", call(open_before, GET_TIME), UNKNOWN)
    expect("a revoked terminal", call(gateway.connect(certificate, key), GET_TIME), UNKNOWN)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    address, pki, terminal_id = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    ours = Authority.read(pki, "ca.pem", "ca.key")
    clients = pki / "clients"
    terminal = Authority.read(clients, f"terminal-{terminal_id}.pem", f"terminal-{terminal_id}.key")
    gateway = Gateway(address, (pki / "ca.pem").read_bytes())
    registered = Authority.read(clients, "admin-dev.pem", "admin-dev.key").key
    faults, shown = [], 0
    for what, (certificate, key), expected in cases(ours, terminal, registered):
        with gateway.connect(certificate, key) as channel:
            got = call(channel, LIST_TERMINALS)
        if got != expected:
            faults.append(f"{what}: {got}, and not {expected}")
        shown += 1
    revoked(gateway, ours, pki, terminal_id, registered, faults)
    # What was refused in the handshake was not refused because nobody was there.
    with gateway.connect(*ours.issue([uri(ADMIN)], key=registered)) as channel:
        if call(channel, LIST_TERMINALS) != GOOD:
            faults.append("the gateway answers nobody in the end")
    if faults:
        sys.exit("FAILED:\n" + "\n".join(faults))
    print(f"ok: {shown} certificates were shown")


main()
