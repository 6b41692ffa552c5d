#!/usr/bin/env python3
"""A bank's host, in Python: verifies a receipt for what it is about to do, and redeems it once.

    PYTHONPATH=src/verifier/python host.py KEYS_DIR TRUST RECEIPT SALT_HEX REDEEMED_FILE NOW_MS AMOUNT_MINOR

The rest of the transaction is what the frozen vectors are of (tests/fixtures/vectors).
"""
import pathlib
import sys

from tulga_verifier import Demand, HostVerifier, Refused, SqliteTable


def main():
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    keys, trust, receipt, salt, redeemed, now, amount = sys.argv[1:]
    keys = pathlib.Path(keys)
    verifier = HostVerifier(
        (keys / "keys.json").read_bytes(),
        (keys / "keys.json.sig").read_text(),
        trust,
        "host.bank.example",
        SqliteTable(redeemed),
    )

    # What the host knows itself, from its own records: nothing of it comes from the receipt.
    demand = Demand(
        host_transaction_id="20261121000417",
        business_date="2026-11-21",
        attempt=1,
        account="acct-4711",
        terminal="ATM-004211",
        operation="cash_withdrawal",
        amount_minor=int(amount),
        currency="KZT",
    )
    # What the terminal sent: the receipt and the salt that opens its commitment.
    jws, salt = pathlib.Path(receipt).read_text().strip(), bytes.fromhex(salt)

    # The first time it may be authorised; asked again, it was redeemed.
    for _ in range(2):
        try:
            authorised = verifier.verify(jws, salt, demand, int(now))
            print(f"authorised {authorised.amount_minor} of at most {authorised.amount_max_minor}")
        except Refused as refusal:
            print(refusal)


if __name__ == "__main__":
    main()
