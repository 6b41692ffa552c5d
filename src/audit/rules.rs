//! The rules by which an audit finds something, and what it means when one does.

/// What a finding of a rule means to whoever relies on the ledger.
pub(super) fn meaning(rule: &str) -> &'static str {
    RULES.iter().find(|(name, _)| *name == rule).map_or("", |(_, meaning)| *meaning)
}

/// Every rule that an audit may name, with what a finding of it means.
pub const RULES: &[(&str, &str)] = &[
    ("trust-missing", "nothing ties this ledger to the bank: anybody could have made it"),
    ("keys", "the list of keys is not the bank's, so that none of the signatures is"),
    ("receipt", "the line is not what the gateway wrote: it was altered, or is not from it"),
    ("key", "nobody with the right to issue receipts signed it"),
    ("signature", "the receipt was altered after it was signed, or was never signed"),
    ("key-range", "a key signed where it had no right to: an old or stolen key was used"),
    ("key-time", "a key signed when it had no right to: an old or stolen key was used"),
    ("gap", "receipts were deleted"),
    ("order", "receipts were put in another order, or one stands twice"),
    ("rid", "one receipt's number was used for two: a copy was given out as another"),
    ("truncated", "the end of the ledger was cut off"),
    ("uncovered", "entries were added that nobody vouches for"),
    ("root", "the receipts are not those that the gateway vouched for"),
    ("fork", "the gateway's key has vouched for two histories: one of them was shown to others"),
    ("checkpoint", "a head is not one that the gateway vouched for: it was altered or made up"),
    ("prior-head", "a receipt was issued on another history than the one that is shown"),
    ("witnessed-head", "a receipt claims a witness that the ledger cannot show"),
    ("origin", "a receipt of another ledger was put in here"),
    ("refers", "a receipt speaks of another one than the one that is shown: that was replaced"),
    ("time", "the clock was set back, or the receipt was put in later with an earlier time"),
    ("back-dated", "the receipt was made later than it says"),
    ("post-dated", "the receipt was made earlier than it says, or the gateway's clock is wrong"),
    ("bound", "times could have been chosen more freely than the bank says"),
    ("cosignature", "somebody made up a witness's word"),
    ("quorum", "no independent party vouches for this history: it may not be the one others saw"),
    ("policy", "it cannot be said who the witnesses are"),
    ("stamp", "a time-stamp is not of this ledger, or of no authority that counts"),
    ("shard", "a whole ledger, or its place among the others, was dropped or exchanged"),
    ("tile", "what is served to others differs from the receipts"),
    ("erasures", "it cannot be said which receipts were erased"),
    ("erasure", "a receipt is missing and nobody answers for its erasure"),
    ("audit-record", "what is shown as the reasons for a decision is not what was recorded then"),
    (
        "held",
        "somebody holds a receipt that this history does not have: it was rewritten or cut off",
    ),
    ("earlier", "the ledger once had another history or a longer one: it was rewritten or cut off"),
];

/// Rules after which receipts cannot be called signed.
pub(super) const SIGNATURE_RULES: [&str; 7] =
    ["trust-missing", "keys", "receipt", "key", "signature", "key-range", "key-time"];

/// Rules that say nothing against what the ledger's own keys vouch for.
pub(super) const WITNESS_RULES: [&str; 6] =
    ["quorum", "policy", "stamp", "bound", "cosignature", "witnessed-head"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_meaning_and_stands_once() {
        for (place, (rule, meaning)) in RULES.iter().enumerate() {
            assert!(!meaning.is_empty(), "{rule}");
            assert!(RULES.iter().skip(place + 1).all(|(other, _)| other != rule), "{rule}");
        }
        for rule in SIGNATURE_RULES.iter().chain(&WITNESS_RULES) {
            assert!(!meaning(rule).is_empty(), "{rule}");
        }
    }
}
