#!/usr/bin/env python3
"""A client of the gateway in another language, written from the .proto files alone.

    client.py PROTO_DIR HOST:PORT CA.pem CLIENTS_DIR DEMO_DIR OUT_DIR

Registers a terminal by a certificate signing request, enrols a person, verifies them and somebody
else, redeems the approval, reports the cash, and fetches receipt, proof and ledger into OUT_DIR.
CLIENTS_DIR holds ROLE-dev.pem and ROLE-dev.key. Needs Python 3.9 and the packages `grpcio`,
`grpcio-tools` and `cryptography`.
"""
import datetime
import importlib
import pathlib
import sys
import tempfile

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_tools import protoc

TODAY = datetime.date.today().isoformat()
CARD, ACCOUNT = "card-of-the-foreign-client", "account-of-the-foreign-client"
# Twelve digits of nobody: the month is 00; the last one is the check digit.
IIN = "000000300017"
AMOUNT_MINOR = 5_000_000


def require(condition, why):
    if not condition:
        sys.exit(f"FAILED: {why}")


def compile_protos(proto_dir):
    """The message and service modules of tulga.v1, from the .proto files."""
    out = tempfile.mkdtemp(prefix="tulga-client-")
    files = [str(path.relative_to(proto_dir)) for path in pathlib.Path(proto_dir).rglob("*.proto")]
    arguments = ["protoc", f"-I{proto_dir}", f"--python_out={out}", f"--grpc_python_out={out}"]
    require(protoc.main(arguments + files) == 0, "the .proto files do not compile")
    sys.path.insert(0, out)
    names = ["audit", "common", "enrollment", "receipt", "terminal", "verification"]
    modules = {}
    for name in names:
        modules[name] = importlib.import_module(f"tulga.v1.{name}_pb2")
        modules[name + "_rpc"] = importlib.import_module(f"tulga.v1.{name}_pb2_grpc")
    return modules


class Gateway:
    """Connections to one gateway, one a certificate."""

    def __init__(self, address, authority):
        self.address, self.authority = address, authority

    def connect(self, certificate, key):
        credentials = grpc.ssl_channel_credentials(self.authority, key, certificate)
        # The gateway's certificate names "localhost"; the address is a number.
        options = [("grpc.ssl_target_name_override", "localhost")]
        return grpc.secure_channel(self.address, credentials, options)

    def connect_as(self, clients, role):
        return self.connect(
            (clients / f"{role}-dev.pem").read_bytes(), (clients / f"{role}-dev.key").read_bytes()
        )


def register_terminal(pb, admin, gateway, terminal_id):
    """A key that never leaves this process; the gateway signs a certificate for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, terminal_id)]))
        .sign(key, hashes.SHA256())
    )
    issued = pb["terminal_rpc"].TerminalServiceStub(admin).RegisterTerminal(
        pb["terminal"].RegisterTerminalRequest(
            terminal_id=terminal_id, csr_pem=request.public_bytes(ser.Encoding.PEM).decode()
        )
    )
    pem = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    chain = issued.certificate_pem + "".join(issued.chain_pem)
    return gateway.connect(chain.encode(), pem)


def enroll(pb, enroller, demo):
    messages, common = pb["enrollment"], pb["common"]
    desk = pb["enrollment_rpc"].EnrollmentServiceStub(enroller)
    consent = common.Consent(
        operator="the bank", subject="the customer", purpose="cash at terminals", days=365,
        given_at="2026-01-01T00:00:00Z", evidence_ref="archive/1",
    )
    created = desk.CreateCustomer(messages.CreateCustomerRequest(iin=IIN, consent=consent))
    customer = created.customer_id
    desk.BindToken(messages.BindTokenRequest(
        customer_id=customer, kind=common.TOKEN_KIND_CARD, token=CARD))
    for name in ("obama.jpg", "obama3.jpg"):
        added = desk.AddCapture(messages.AddCaptureRequest(
            customer_id=customer, image=(demo / name).read_bytes(), language="kk"))
        require(added.accepted, f"{name} was not accepted: {added.reasons}")
    activated = desk.Activate(messages.ActivateRequest(customer_id=customer))
    require(activated.status == messages.CUSTOMER_STATUS_ACTIVE, "the customer is not active")


def verify(pb, terminal, transaction_id, image):
    """One transaction from the terminal's side; the decision."""
    messages, common = pb["verification"], pb["common"]
    service = pb["verification_rpc"].VerificationServiceStub(terminal)
    opened = service.BeginCapture(messages.BeginCaptureRequest(
        customer=common.CustomerReference(card_token=CARD),
        transaction=common.Transaction(
            host_transaction_id=transaction_id, business_date=TODAY,
            operation=common.OPERATION_WITHDRAWAL, amount_minor=AMOUNT_MINOR, currency="KZT",
            account_currency="KZT", account=ACCOUNT,
        ),
        modality=common.MODALITY_FACE,
        holder_verification=common.HOLDER_VERIFICATION_CARD_AND_PIN, language="kk",
    ))
    request = messages.VerifyRequest(
        challenge=opened.challenge, host_transaction_id=transaction_id, business_date=TODAY,
        attempt=1, capture=messages.Capture(image=image, media_type="image/jpeg"), language="kk",
    )
    decision = service.Verify(request)
    require(service.Verify(request) == decision, "a repeated call has another answer")
    kept = service.GetDecision(messages.GetDecisionRequest(
        business_date=TODAY, host_transaction_id=transaction_id, attempt=1, language="kk"))
    require(kept == decision, "the kept decision is another")
    return decision


def report(pb, terminal, transaction_id):
    messages = pb["verification"]
    pb["verification_rpc"].VerificationServiceStub(terminal).ReportOutcome(
        messages.ReportOutcomeRequest(
            business_date=TODAY, host_transaction_id=transaction_id, attempt=1,
            outcome=messages.CASH_OUTCOME_TAKEN, dispensed_minor=AMOUNT_MINOR, currency="KZT"))


def redeem(pb, host, transaction_id, decision):
    service = pb["receipt_rpc"].ReceiptServiceStub(host)
    return service.Redeem(pb["receipt"].RedeemRequest(
        receipt_jws=decision.receipt_jws, transaction_salt=decision.salts.transaction,
        host_transaction_id=transaction_id, business_date=TODAY, attempt=1, account=ACCOUNT,
        amount_minor=AMOUNT_MINOR, currency="KZT",
        operation=pb["common"].OPERATION_WITHDRAWAL)).redeemed


def audit(pb, auditor, decision, out):
    """The receipt, its proof and the whole ledger, as files."""
    messages = pb["audit"]
    service = pb["audit_rpc"].AuditServiceStub(auditor)
    index = decision.position.index
    receipt = service.GetReceipt(messages.GetReceiptRequest(index=index))
    require(receipt.receipt_jws == decision.receipt_jws, "the ledger has other bytes")
    proof = service.GetProof(messages.GetProofRequest(index=index)).proof
    for piece in service.ExportLedger(messages.ExportLedgerRequest()):
        require(".." not in piece.path and not piece.path.startswith("/"), "a path leads outside")
        path = out / piece.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(piece.content)
    (out / "receipt.jws").write_bytes(receipt.receipt_jws)
    (out / "receipt.tlog-proof").write_text(proof)


def main():
    require(len(sys.argv) == 7, __doc__)
    proto_dir, address, authority, clients, demo, out = sys.argv[1:]
    clients, demo, out = pathlib.Path(clients), pathlib.Path(demo), pathlib.Path(out)
    pb = compile_protos(proto_dir)
    gateway = Gateway(address, pathlib.Path(authority).read_bytes())
    admin = gateway.connect_as(clients, "admin")
    terminal = register_terminal(pb, admin, gateway, "ATM-FOREIGN")
    enroll(pb, gateway.connect_as(clients, "enroller"), demo)

    approved = verify(pb, terminal, "F1", (demo / "obama2.jpg").read_bytes())
    denied = verify(pb, terminal, "F2", (demo / "biden.jpg").read_bytes())
    common = pb["common"]
    require(approved.outcome == common.OUTCOME_APPROVED, f"not approved: {approved.reasons}")
    require(denied.outcome == common.OUTCOME_DENIED, f"not denied: {denied.reasons}")
    require(denied.reasons[0].text, "a denial says nothing to the customer")

    # A role that may not call is told so, with a reason.
    try:
        redeem(pb, terminal, "F1", approved)
        require(False, "a terminal redeemed a receipt")
    except grpc.RpcError as error:
        require(error.code() == grpc.StatusCode.PERMISSION_DENIED, f"refused as {error.code()}")
    host = gateway.connect_as(clients, "host")
    redeemed = [redeem(pb, host, "F1", approved) for _ in range(2)]
    require(redeemed == [True, False], f"redeemed: {redeemed}")
    report(pb, terminal, "F1")
    audit(pb, gateway.connect_as(clients, "auditor"), approved, out)
    print(f"ok: approved as entry {approved.position.index}, denied as entry {denied.position.index}")


if __name__ == "__main__":
    main()
