//! A pack as a page for people: what each rule does, by which law, and its exact text.

use std::fmt::Write as _;

use super::pack::{Described, PolicyPack};

/// The page, in Markdown.
#[must_use]
pub fn document(pack: &PolicyPack) -> String {
    let mut page = String::new();
    match write_page(&mut page, pack) {
        // Writing to a string does not fail.
        Ok(()) | Err(std::fmt::Error) => page,
    }
}

fn write_page(page: &mut String, pack: &PolicyPack) -> std::fmt::Result {
    let bars = pack.bars();
    writeln!(page, "# `{}`, version {}\n", pack.id().as_str(), pack.version())?;
    writeln!(
        page,
        "Made by `tulga policy document`; the pack itself decides. Jurisdiction: {}. In force from {}. \
         {} rules, {} cases. Least strength of a match: {} dB; attempts in a transaction: {}; least \
         liveness score, where there is a model: {} of 10,000.\n",
        pack.jurisdiction(),
        pack.effective_from().rfc3339(),
        pack.described().len(),
        pack.cases(),
        bars.required_db,
        bars.attempts_max,
        bars.liveness_min_e4,
    )?;
    writeln!(page, "Amounts are in minor units. Of all rules that hold the gravest decides.\n")?;
    writeln!(page, "| rule | what follows | reason | law | decides |")?;
    writeln!(page, "| --- | --- | --- | --- | --- |")?;
    for rule in pack.described() {
        let Described { id, effect, reason, law, in_force, legal_basis, text: _ } = rule;
        let reason = reason.map_or(String::new(), |reason| format!("`{}`", reason.code()));
        let decides = match (in_force, legal_basis) {
            (true, None) => "yes".to_owned(),
            (true, Some(basis)) => format!("yes: {basis}"),
            (false, basis) => format!("**switched off**: {}", basis.as_deref().unwrap_or_default()),
        };
        let law = law.as_deref().unwrap_or_default();
        writeln!(page, "| `{id}` | {effect} | {reason} | {law} | {decides} |")?;
    }
    for rule in pack.described() {
        writeln!(page, "\n## {}\n\n```cedar\n{}\n```", rule.id, rule.text.trim_end())?;
    }
    Ok(())
}
