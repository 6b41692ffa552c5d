//! A pack as a page for people: what each rule does, by which law, and its exact text.

use std::fmt::Write as _;

use super::facts::DeviceLevel;
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
    let signed = match bars.capture_signed {
        DeviceLevel::Certificate => "need not be signed",
        DeviceLevel::SoftwareKey => "are signed by their sensor, with any key",
        DeviceLevel::SecureElement => "are signed by their sensor, with a key in a secure element",
    };
    let law = pack.after_consent();
    let stays = match (law.keep_days, law.keep_templates) {
        (0, _) => "nothing is kept".to_owned(),
        (days, false) => format!("the record is kept for {days} days ({})", law.legal_basis),
        (days, true) => {
            format!("record and templates are kept for {days} days ({})", law.legal_basis)
        }
    };
    writeln!(page, "Captures {signed}. When a consent has ended, {stays}.\n")?;
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

/// A rule from its word `permit` or `forbid` on: the first that stands in no text, comment or other word.
pub(super) fn without_annotations(source: &str) -> &str {
    let mut rest = source;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let is_inside = before.is_alphanumeric() || matches!(before, '_' | '@');
        if !is_inside && ["permit", "forbid"].iter().any(|word| rest.starts_with(word)) {
            return rest;
        }
        let length = match next {
            '"' => text_length(rest),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ => next.len_utf8(),
        };
        before = next;
        rest = rest.get(length..).unwrap_or_default();
    }
    ""
}

/// How many bytes a quoted text takes, its quotes included.
fn text_length(quoted: &str) -> usize {
    let mut is_escaped = false;
    for (at, next) in quoted.char_indices().skip(1) {
        match next {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = next == '\\' && !is_escaped,
        }
    }
    quoted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_text_begins_with_its_own_word_and_not_with_one_in_its_annotations() {
        for before in [
            "",
            "@id(\"a.permit\")\n",
            "@permit(\"forbid (\")",
            "@law(\"a \\\"permit\\\" in a text\")\n",
            "// permit what\n@law(\"http://permit\") ",
            "@no_permit(\"\\\\\")\n",
        ] {
            for rule in
                ["permit (principal, action, resource);", "forbid(principal) when { permit };"]
            {
                assert_eq!(without_annotations(&format!("{before}{rule}")), rule, "{before}");
            }
        }
        assert_eq!(without_annotations("@id(\"permit"), "");
    }
}
