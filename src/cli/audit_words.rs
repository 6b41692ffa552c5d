//! A receipt in plain words.

use crate::receipt::{Actor, Cap, Confirmation, Content, ReceiptBody, Refers, Txn};

/// A receipt in plain words: label and text.
pub(super) fn words(body: &ReceiptBody, kid: &str) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("receipt", body.rid.clone()),
        ("kind", body.content.kind().to_owned()),
        ("issued by", format!("{} with key {kid}", body.iss)),
        ("for", body.aud.clone().unwrap_or_else(|| "nobody in particular".to_owned())),
        ("time", body.time.clone()),
        ("bank", body.tenant.clone()),
    ];
    if let Some(until) = &body.valid_until {
        rows.push(("may be acted on until", until.clone()));
    }
    rows.extend(content_words(&body.content));
    let log = &body.log;
    rows.push(("place", format!("entry {} of {}", log.index, log.origin)));
    rows.push(("head before it", format!("{} entries, root {}", log.prior_size, log.prior_root)));
    rows
}

fn decision_words(
    txn: &Txn,
    outcome: &str,
    reasons: &[String],
    terminal: &str,
) -> Vec<(&'static str, String)> {
    let asked = format!("{} of {} minor units of {}", txn.op, txn.amount_minor, txn.currency);
    vec![
        ("outcome", outcome.to_owned()),
        ("reasons", reasons.join(", ")),
        ("asked for", asked),
        ("terminal", terminal.to_owned()),
    ]
}

fn further_words(
    cap: Option<&Cap>,
    refers: Option<&Refers>,
    confirmation: Option<&Confirmation>,
) -> Vec<(&'static str, String)> {
    let cap = cap.map(|cap| {
        ("cap", format!("at most {} minor units until {}", cap.amount_minor, cap.until))
    });
    let after =
        refers.map(|refers| ("after", format!("receipt {} (entry {})", refers.rid, refers.index)));
    let confirmed = confirmation.map(|Confirmation { by, at, entry }| {
        ("confirmed", format!("by {by} at {at}, receipt {} (entry {})", entry.rid, entry.index))
    });
    [cap, after, confirmed].into_iter().flatten().collect()
}

fn content_words(content: &Content) -> Vec<(&'static str, String)> {
    let by = |actor: &Actor| format!("{} {} ({})", actor.role, actor.name, actor.cert);
    let nobody = || "nobody named".to_owned();
    match content {
        Content::Verification(it) => {
            let mut rows = decision_words(&it.txn, &it.outcome, &it.reasons, &it.terminal.id);
            rows.extend([
                ("customer", it.subject.clone().unwrap_or_else(nobody)),
                ("compared", format!("{}, {} dB required", it.bio.modality, it.bio.required_db)),
                ("rules", format!("{} version {}", it.policy.id, it.policy.version)),
            ]);
            rows.extend(further_words(
                it.cap.as_ref(),
                it.refers.as_ref(),
                it.confirmation.as_ref(),
            ));
            rows
        }
        Content::Exception(it) => {
            let mut rows = decision_words(&it.txn, &it.outcome, &it.reasons, &it.terminal.id);
            rows.extend([
                ("customer", it.subject.clone().unwrap_or_else(nobody)),
                ("compared", "nothing: the exception path".to_owned()),
                ("rules", format!("{} version {}", it.policy.id, it.policy.version)),
            ]);
            rows.extend(further_words(
                it.cap.as_ref(),
                it.refers.as_ref(),
                it.confirmation.as_ref(),
            ));
            rows
        }
        Content::Outcome(it) => vec![
            ("about", format!("receipt {} (entry {})", it.refers.rid, it.refers.index)),
            ("the cash was", it.outcome.clone()),
            ("moved", format!("{} minor units of {}", it.dispensed_minor, it.currency)),
            ("terminal", it.terminal.id.clone()),
        ],
        Content::Administration(it) => vec![
            ("act", it.act.clone()),
            ("by", by(&it.actor)),
            ("to", it.subject.clone().unwrap_or_else(nobody)),
        ],
        Content::Erasure(it) => {
            let bodies: Vec<_> = it
                .bodies
                .iter()
                .map(|range| format!("{} to {}", range.first, range.last))
                .collect();
            let bodies = if bodies.is_empty() { "none".to_owned() } else { bodies.join(", ") };
            vec![
                ("reason", it.reason.clone()),
                ("by", by(&it.actor)),
                ("customer", it.subject.clone().unwrap_or_else(nobody)),
                ("bodies deleted", bodies),
            ]
        }
        Content::Redemption(it) => vec![
            ("about", format!("receipt {} (entry {})", it.refers.rid, it.refers.index)),
            ("by", by(&it.actor)),
        ],
        Content::Reversal(it) => vec![
            ("about", format!("receipt {} (entry {})", it.refers.rid, it.refers.index)),
            ("moved", format!("{} {} (minor units)", it.moved_minor, it.currency)),
            ("by", by(&it.actor)),
        ],
    }
}
