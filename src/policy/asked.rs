//! Which facts a rule asks, by its own words.
//!
//! The schema says what rules may see. Some facts cost the person more than a look into the store: they are
//! found out only where a rule that is in force asks them.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value as Json;

use super::compiled::{joined, path};

/// The paths that facts of one or more rules are asked by.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(BTreeSet<String>);

impl Asked {
    /// Adds what a rule asks; `None` for one that has no JSON form.
    pub fn add(&mut self, policy: &Policy) -> Option<()> {
        let json = policy.to_json().ok()?;
        for part in json.get("conditions")?.as_array()? {
            self.expression(part.get("body")?);
        }
        Some(())
    }

    /// Adds a path that is asked outside of a rule's conditions.
    pub fn add_path(&mut self, path: String) {
        self.0.insert(path);
    }

    /// Whether a fact, a fact of this record, or a record with this fact in it is asked.
    pub fn asks(&self, path: &str) -> bool {
        self.0.iter().any(|asked| is_within(asked, path) || is_within(path, asked))
    }

    /// An expression of Cedar's JSON form: one operator with its operands.
    fn expression(&mut self, json: &Json) {
        let Some((operator, operand)) = json.as_object().and_then(|it| it.iter().next()) else {
            return;
        };
        // The context itself has the empty path: who asks it whole asks everything.
        let asked = match operator.as_str() {
            "Value" => return,
            "has" => joined(operand),
            _ => path(json),
        };
        if let Some(asked) = asked {
            self.add_path(asked);
            return;
        }
        let operands: Vec<_> = match operand {
            Json::Object(named) => named.values().collect(),
            Json::Array(listed) => listed.iter().collect(),
            _ => return,
        };
        for operand in operands {
            self.expression(operand);
        }
    }
}

/// Whether a path is another one, or leads on from it; everything leads on from the empty path.
pub(super) fn is_within(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of);
    rest.is_some_and(|rest| of.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(condition: &str) -> Asked {
        let text = format!("forbid (principal, action, resource) when {{ {condition} }};");
        let mut asked = Asked::default();
        asked.add(&text.parse().unwrap()).unwrap();
        asked
    }

    #[test]
    fn a_fact_is_asked_wherever_a_rule_names_it() {
        for condition in [
            "context.a.b",
            "context has a && context.a has b",
            "1 < 2 && !(context.a.b)",
            "[\"x\", context.a.b].contains(\"y\")",
            "if context.z then true else {q: context.a.b}.q",
            "context.a.b like \"*\"",
            "decimal(context.a.b).lessThan(decimal(\"1.0\"))",
            "(if context.z then context.a else context.y).b",
        ] {
            let asked = asked(condition);
            assert!(asked.asks("a.b") && asked.asks("a"), "{condition}");
            for other in ["b", "c", "aa"] {
                assert!(!asked.asks(other), "{condition}: {other}");
            }
        }
    }

    #[test]
    fn what_no_rule_names_is_not_asked() {
        let asked =
            asked("context.shared_face && principal == resource && \"context.face\" == \"a\"");
        assert!(asked.asks("shared_face"));
        for other in ["face", "shared", "shared_face_too", "principal"] {
            assert!(!asked.asks(other), "{other}");
        }
        assert!(!Asked::default().asks("shared_face"));
    }

    #[test]
    fn who_asks_the_context_whole_asks_everything() {
        assert!(asked("context == {}").asks("anything"));
        assert!(asked("(if true then context else context).x").asks("anything"));
    }
}
