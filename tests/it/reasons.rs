//! `docs/reasons.md` says what the table says.

use std::fmt::Write;
use std::path::Path;

use tulga::domain::reason::{Reason, ReasonFamily};

/// `UPDATE=1 cargo test reasons` writes the document anew.
#[test]
fn the_document_of_reasons_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reasons.md");
    let expected = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/reasons.md is stale: UPDATE=1 cargo test reasons");
}

fn document() -> String {
    let mut text = String::from(HEAD);
    for family in ReasonFamily::ALL {
        let reasons = || Reason::ALL.iter().copied().filter(move |r| r.family() == family);
        writeln!(text, "\n## {}: {}\n", family.prefix(), about(family)).unwrap();
        text.push_str("| code | meaning | probable cause | operator | retry | tell | field 39 | next screen |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
        for reason in reasons() {
            let row = reason.row();
            writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | `{}` | `{}` |",
                row.code,
                row.meaning,
                row.probable_cause,
                row.operator,
                yes_no(row.retryable),
                yes_no(row.disclosable),
                row.iso8583_field39,
                row.next_screen.code(),
            )
            .unwrap();
        }
    }
    text.push_str(TEXTS_HEAD);
    for reason in Reason::ALL.iter().copied().filter(|reason| reason.public() == *reason) {
        let customer = reason.row().customer;
        writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            reason.code(),
            customer.kk,
            customer.ru,
            customer.en
        )
        .unwrap();
    }
    text
}

const fn about(family: ReasonFamily) -> &'static str {
    match family {
        ReasonFamily::Capture => "capture and its quality",
        ReasonFamily::Liveness => "liveness",
        ReasonFamily::Device => "the terminal",
        ReasonFamily::Subject => "the customer and their enrolment",
        ReasonFamily::Match => "the comparison",
        ReasonFamily::Limit => "attempts, rates, caps",
        ReasonFamily::Policy => "the bank's rules",
        ReasonFamily::Request => "the request",
        ReasonFamily::System => "technical failures",
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

const HEAD: &str = "\
# Reasons

<!-- Generated from src/domain/reason/table.rs: UPDATE=1 cargo test reasons -->

Why a decision came out as it did, or why none was made. Codes never change once released; new ones
may be added, so a client treats a code that it does not know by its family, the word before the
first underscore.

A terminal never sees a `PAD_`, `SUB_` or `MAT_` reason but `MAT_NOT_CONFIRMED`, which stands for
all of them: \"not enrolled\", \"does not match\" and \"spoof suspected\" look alike from outside. The
internal reasons are in the audit record.

*Retry*: whether the same customer may try again in the same transaction. *Tell*: whether the
customer may be told this very reason. *Field 39*: the nearest ISO 8583 response code, for a host
that speaks nothing richer (`00` is an approval; `1A` is the card schemes' request for further
authentication). *Next screen*: a hint to the terminal; `RETRY_CAPTURE` becomes `OTHER_VERIFICATION`
when no attempts are left.
";

const TEXTS_HEAD: &str = "
## What the customer reads

| code | қазақша | по-русски | English |
| --- | --- | --- | --- |
";
