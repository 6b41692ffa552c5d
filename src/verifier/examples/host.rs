//! A bank's host, in Rust: verifies a receipt for what it is about to do, and redeems it once.
//!
//!     cargo run --example host -- KEYS_DIR TRUST RECEIPT SALT_HEX REDEEMED_FILE NOW_MS AMOUNT_MINOR
//!
//! The rest of the transaction is what the frozen vectors are of (`tests/fixtures/vectors`).

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use tulga::crypto::Digest;
use tulga::domain::id::Attempt;
use tulga::domain::time::UnixMillis;
use tulga::receipt::{Salt, TransactionFields, TrustFingerprint};
use tulga::verifier::{Demand, FileTable, HostVerifier};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    run(&arguments)?.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// What the host says, asked twice.
///
/// # Errors
///
/// Whatever keeps the host from paying, and files that cannot be read.
pub fn run(arguments: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    let [keys, trust, receipt, salt, redeemed, now, amount] = arguments else {
        return Err("KEYS_DIR TRUST RECEIPT SALT_HEX REDEEMED_FILE NOW_MS AMOUNT_MINOR".into());
    };
    let now = UnixMillis::new(now.parse()?);
    let table = FileTable::open(Path::new(redeemed), now)?;
    let verifier = HostVerifier::new(
        &fs::read(Path::new(keys).join("keys.json"))?,
        &fs::read_to_string(Path::new(keys).join("keys.json.sig"))?,
        TrustFingerprint::parse(trust)?,
        "host.bank.example",
        Box::new(table),
    )?;

    // What the host knows itself, from its own records: nothing of it comes from the receipt.
    let demand = Demand {
        transaction: TransactionFields {
            host_transaction_id: "20261121000417",
            business_date: "2026-11-21",
            attempt: Attempt::try_from(1)?,
            account: "acct-4711",
            counterparty: None,
        },
        terminal: "ATM-004211",
        operation: "cash_withdrawal",
        amount_minor: amount.parse()?,
        currency: "KZT",
    };
    // What the terminal sent: the receipt and the salt that opens its commitment.
    let jws = fs::read_to_string(receipt)?;
    let salt = Salt::new(*Digest::from_hex(salt)?.as_bytes());

    // The first time it may be authorised; asked again, it was redeemed.
    let ask = || match verifier.verify(jws.trim_end(), &salt, &demand, now) {
        Ok(authorised) => {
            let (amount, most) = (authorised.amount_minor(), authorised.amount_max_minor());
            format!("authorised {amount} of at most {most}")
        }
        Err(refusal) => format!("{}: {refusal}", refusal.code()),
    };
    Ok(vec![ask(), ask()])
}
