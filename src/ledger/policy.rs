//! Which cosignatures are enough (c2sp.org/tlog-policy).
//!
//! A policy names ledgers, witnesses, groups of witnesses with a threshold, and the quorum. Names are
//! bytes, and mean nothing outside of the file.

use std::collections::{HashMap, HashSet};

use super::{CosignatureError, LogKey, SignedNote, VerifierKeyError, WitnessKey};
use crate::domain::time::UnixMillis;

/// Longest policy file read, in bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;

/// A checked policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessPolicy {
    logs: Vec<LogKey>,
    witnesses: Vec<WitnessRecord>,
    /// Members name earlier nodes only, so that no walk is endless.
    nodes: Vec<Node>,
    /// None for `quorum none`.
    quorum: Option<usize>,
}

/// A witness of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessRecord {
    /// What the file calls it.
    pub name: String,
    /// Its key, with the name that it signs under.
    pub key: WitnessKey,
    /// Its submission prefix (c2sp.org/tlog-witness), where the file has one.
    pub url: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Node {
    Witness(usize),
    Group { threshold: usize, members: Vec<usize> },
}

/// What a policy says of one note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// The witnesses that cosigned, by their places in [`WitnessPolicy::witnesses`], and when.
    pub cosigned: Vec<(usize, UnixMillis)>,
    /// The witnesses in whose name somebody else signed: such a note is not to be trusted at all.
    pub forged: Vec<(usize, CosignatureError)>,
    /// Whether it is enough.
    pub state: QuorumState,
}

/// Whether cosignatures are enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuorumState {
    /// The policy asks for none.
    NotAsked,
    /// Enough, since this instant: the earliest by which the witnesses who had signed were enough.
    Reached(UnixMillis),
    /// Not enough.
    Missing,
}

impl WitnessPolicy {
    /// Reads a policy file of at most [`POLICY_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] with the first line that is not one of a policy.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let Some(body) = bytes.strip_suffix(b"\n") else {
            return Err(PolicyError::Unfinished);
        };
        let mut reader = Reader::default();
        for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
            reader.line(line).map_err(|fault| PolicyError::Line { number, fault })?;
        }
        let Some(quorum) = reader.quorum else { return Err(PolicyError::NoQuorum) };
        let Reader { logs, witnesses, nodes, .. } = reader;
        Ok(Self { logs, witnesses, nodes, quorum })
    }

    /// The ledgers that the file names. Their signatures are not looked at here.
    #[must_use]
    pub fn logs(&self) -> &[LogKey] {
        &self.logs
    }

    /// The witnesses, in the order of the file.
    #[must_use]
    pub fn witnesses(&self) -> &[WitnessRecord] {
        &self.witnesses
    }

    /// Whether any cosignature is asked for: false for `quorum none`.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.quorum.is_some()
    }

    /// Counts the cosignatures of a note. Whether a ledger signed it is another question.
    #[must_use]
    pub fn count(&self, note: &SignedNote<'_>) -> Quorum {
        let (mut cosigned, mut forged) = (Vec::new(), Vec::new());
        for (place, witness) in self.witnesses.iter().enumerate() {
            match witness.key.cosigned_at(note) {
                Ok(Some(time)) => cosigned.push((place, time)),
                Ok(None) => {}
                Err(fault) => forged.push((place, fault)),
            }
        }
        let state = self.state(&cosigned);
        Quorum { cosigned, forged, state }
    }

    /// Whether the cosignatures of these witnesses are enough, and since when.
    #[must_use]
    pub fn state(&self, cosigned: &[(usize, UnixMillis)]) -> QuorumState {
        let Some(quorum) = self.quorum else { return QuorumState::NotAsked };
        let mut since: Vec<Option<UnixMillis>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let time = match node {
                Node::Witness(place) => {
                    cosigned.iter().filter(|(of, _)| of == place).map(|(_, time)| *time).min()
                }
                Node::Group { threshold, members } => {
                    let mut times: Vec<UnixMillis> =
                        members.iter().filter_map(|member| since.get(*member).copied()?).collect();
                    times.sort_unstable();
                    threshold.checked_sub(1).and_then(|last| times.get(last).copied())
                }
            };
            since.push(time);
        }
        since.get(quorum).copied().flatten().map_or(QuorumState::Missing, QuorumState::Reached)
    }

    /// When a note was witnessed as this policy asks; none for a note that is none, has too few
    /// cosignatures or a forged one, and where the policy asks for none.
    #[must_use]
    pub fn witnessed_at(&self, note: &str) -> Option<UnixMillis> {
        let quorum = self.count(&SignedNote::parse(note).ok()?);
        match quorum.state {
            QuorumState::Reached(time) if quorum.forged.is_empty() => Some(time),
            _ => None,
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<LogKey>,
    witnesses: Vec<WitnessRecord>,
    nodes: Vec<Node>,
    names: HashMap<Vec<u8>, usize>,
    /// The nodes that are a group's members already: nobody counts twice.
    members: HashSet<usize>,
    groups: usize,
    /// Set by the one `quorum` line.
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), LineFault> {
        if line.iter().any(|byte| matches!(byte, 0x00..=0x08 | 0x0b..=0x1f | 0x7f)) {
            return Err(LineFault::Character);
        }
        let items: Vec<&[u8]> = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|item| !item.is_empty())
            .collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] | [b"log", key, _] => self.log(key),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.set_quorum(name),
            _ => Err(LineFault::Shape),
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), LineFault> {
        let key = LogKey::parse(text(key)?).map_err(LineFault::Key)?;
        if self.logs.iter().any(|known| known.key() == key.key()) {
            return Err(LineFault::Twice);
        }
        bounded(self.logs.len(), LOGS_MAX)?;
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&[u8]>) -> Result<(), LineFault> {
        let key = WitnessKey::parse(text(key)?).map_err(LineFault::Key)?;
        if self.witnesses.iter().any(|known| known.key.key() == key.key()) {
            return Err(LineFault::Twice);
        }
        bounded(self.witnesses.len(), WITNESSES_MAX)?;
        self.define(name, Node::Witness(self.witnesses.len()))?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.witnesses.push(WitnessRecord { name: lossy(name), key, url: url.map(lossy) });
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), LineFault> {
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            number => text(number)?.parse().map_err(|_| LineFault::Threshold)?,
        };
        if !(1..=members.len()).contains(&threshold) {
            return Err(LineFault::Threshold);
        }
        bounded(self.groups, GROUPS_MAX)?;
        let mut nodes = Vec::with_capacity(members.len());
        for member in members {
            let node = self.named(member)?;
            if !self.members.insert(node) {
                return Err(LineFault::MemberTwice);
            }
            nodes.push(node);
        }
        self.groups += 1;
        self.define(name, Node::Group { threshold, members: nodes })
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), LineFault> {
        if self.quorum.is_some() {
            return Err(LineFault::Twice);
        }
        let node = if name == NONE { None } else { Some(self.named(name)?) };
        self.quorum = Some(node);
        Ok(())
    }

    fn define(&mut self, name: &[u8], node: Node) -> Result<(), LineFault> {
        if name == NONE || self.names.contains_key(name) {
            return Err(LineFault::Twice);
        }
        self.names.insert(name.to_vec(), self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }

    fn named(&self, name: &[u8]) -> Result<usize, LineFault> {
        self.names.get(name).copied().ok_or(LineFault::Unknown)
    }
}

fn text(item: &[u8]) -> Result<&str, LineFault> {
    std::str::from_utf8(item).map_err(|_| LineFault::Character)
}

const fn bounded(count: usize, max: usize) -> Result<(), LineFault> {
    if count < max { Ok(()) } else { Err(LineFault::TooMany) }
}

/// A policy that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// More bytes than are read.
    #[error("the policy is longer than 64 KiB")]
    TooLong,
    /// The last line does not end.
    #[error("the policy's last line has no newline")]
    Unfinished,
    /// Nothing says what is enough.
    #[error("the policy has no quorum line")]
    NoQuorum,
    /// A line that is none of a policy's.
    #[error("line {number} of the policy is not one")]
    Line {
        /// Which, from 1.
        number: usize,
        /// Why.
        #[source]
        fault: LineFault,
    },
}

impl PolicyError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_POLICY"
    }
}

/// What is wrong with a line of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// A control character, or a key that is no text.
    #[error("it has a character that no policy has")]
    Character,
    /// An unknown word, or too few or too many items.
    #[error("it is not log, witness, group or quorum with what belongs to them")]
    Shape,
    /// The key.
    #[error("its key cannot be used")]
    Key(#[source] VerifierKeyError),
    /// A key, a name or the quorum is defined again, or `none` is.
    #[error("it defines again what is defined")]
    Twice,
    /// A name that no line above defines.
    #[error("it names what no line above defines")]
    Unknown,
    /// A member of another group, or of this one, already.
    #[error("a member is a group's member already")]
    MemberTwice,
    /// Not from 1 to the number of members.
    #[error("its threshold is not from 1 to the number of its members")]
    Threshold,
    /// More than is read.
    #[error("there are more than 64 of its kind")]
    TooMany,
}

const NONE: &[u8] = b"none";
const LOGS_MAX: usize = 64;
const WITNESSES_MAX: usize = 64;
const GROUPS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy, Signer as _};
    use crate::ledger::{Checkpoint, Origin, cosign, empty_root};

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    fn witness(seed: u64) -> WitnessKey {
        let name = Origin::try_from(format!("w{seed}.example").as_str()).unwrap();
        WitnessKey::new(name, key(seed).public_key())
    }

    /// The example of the specification, with keys.
    fn example() -> String {
        let log = LogKey::new(Origin::try_from("a.example/log").unwrap(), key(99).public_key());
        let mut lines = format!("# an example\nlog {log}\n\n");
        for (seed, name) in [(1, "X1"), (2, "X2"), (3, "X3")] {
            lines += &format!("witness {name} {}\n", witness(seed));
        }
        lines += "group X-witnesses 2 X1 X2 X3\n \t \n";
        for (seed, name) in [(4, "Y1"), (5, "Y2"), (6, "Y3")] {
            lines += &format!("\twitness  {name} {} https://y.example/{seed}\n", witness(seed));
        }
        lines
            + "group Y-witnesses any Y1 Y2 Y3\n\
            group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    /// A checkpoint cosigned by witnesses, each at an instant.
    fn note(cosigned: &[(u64, i64)]) -> String {
        let origin = Origin::try_from("a.example/log").unwrap();
        let text = Checkpoint { origin, size: 0, root: empty_root() }.text();
        let own = cosign(&text, at(1), witness(77).name(), &key(77)).unwrap();
        let lines = cosigned.iter().map(|(seed, time)| {
            cosign(&text, at(*time), witness(*seed).name(), &key(*seed)).unwrap()
        });
        format!("{text}\n{own}{}", lines.collect::<String>())
    }

    #[test]
    fn a_quorum_of_groups_is_reached_when_the_last_of_the_needed_signed() {
        let policy = WitnessPolicy::parse(example().as_bytes()).unwrap();
        assert_eq!(policy.logs().len(), 1);
        assert_eq!(policy.witnesses().len(), 6);
        assert_eq!(policy.witnesses()[4].url.as_deref(), Some("https://y.example/5"));
        assert!(policy.asks());
        let since = |cosigned: &[(u64, i64)]| policy.witnessed_at(&note(cosigned));
        assert_eq!(since(&[]), None);
        assert_eq!(since(&[(1, 10), (2, 20), (3, 30)]), None, "no Y");
        assert_eq!(since(&[(1, 10), (4, 20)]), None, "one X");
        assert_eq!(since(&[(1, 10), (3, 30), (6, 20)]), Some(at(30)));
        assert_eq!(since(&[(1, 10), (2, 15), (3, 30), (6, 20), (5, 90)]), Some(at(20)));
        assert_eq!(since(&[(1, 10), (1, 5), (4, 20)]), None, "one witness counts once");
        assert_eq!(since(&[(1, 10), (1, 5), (2, 7), (4, 1)]), Some(at(7)), "its earliest counts");
    }

    #[test]
    fn a_forged_cosignature_spoils_the_note() {
        let policy = WitnessPolicy::parse(example().as_bytes()).unwrap();
        let good = note(&[(1, 10), (3, 30), (6, 20)]);
        assert!(policy.witnessed_at(&good).is_some());
        // The line of X2 over another text.
        let other = note(&[]).replace("\n0\n", "\n1\n");
        let text = other.split_once("\n\n").unwrap().0;
        let foreign = cosign(&format!("{text}\n"), at(5), witness(2).name(), &key(2)).unwrap();
        let forged = format!("{good}{foreign}");
        let quorum = policy.count(&SignedNote::parse(&forged).unwrap());
        assert_eq!(quorum.forged, [(1, CosignatureError::Signature)]);
        assert_eq!(quorum.cosigned.len(), 3);
        assert_eq!(policy.witnessed_at(&forged), None);
    }

    #[test]
    fn a_single_witness_or_nobody_may_be_the_quorum() {
        let one = format!("witness W {}\nquorum W\n", witness(1));
        let policy = WitnessPolicy::parse(one.as_bytes()).unwrap();
        assert_eq!(policy.witnessed_at(&note(&[(1, 3)])), Some(at(3)));
        assert_eq!(policy.witnessed_at(&note(&[(2, 3)])), None);
        let nobody = WitnessPolicy::parse(b"quorum none\n").unwrap();
        assert!(!nobody.asks());
        let quorum = nobody.count(&SignedNote::parse(&note(&[])).unwrap());
        assert_eq!(quorum.state, QuorumState::NotAsked);
        assert_eq!(nobody.witnessed_at(&note(&[])), None);
    }

    #[test]
    fn names_are_bytes() {
        // The letter K and the Kelvin sign, which some take for equal; and bytes that are no text.
        let mut file = format!("witness K {}\n", witness(1)).into_bytes();
        file.extend(format!("witness \u{212a} {}\n", witness(2)).into_bytes());
        file.extend([b"witness \xff ", witness(3).to_string().as_bytes(), b"\n"].concat());
        file.extend(b"group \xfe all K \xe2\x84\xaa \xff\nquorum \xfe\n");
        let policy = WitnessPolicy::parse(&file).unwrap();
        assert_eq!(policy.witnessed_at(&note(&[(1, 1), (2, 2), (3, 3)])), Some(at(3)));
        assert_eq!(policy.witnessed_at(&note(&[(1, 1), (2, 2)])), None);
    }

    #[test]
    fn what_is_no_policy_is_refused_with_its_line() {
        let (one, two) = (witness(1), witness(2));
        let log = LogKey::new(Origin::try_from("a.example").unwrap(), key(9).public_key());
        let again = LogKey::new(Origin::try_from("b.example").unwrap(), key(9).public_key());
        let line = |text: String| match WitnessPolicy::parse(text.as_bytes()) {
            Err(PolicyError::Line { number, fault }) => (number, fault),
            other => panic!("{text:?}: {other:?}"),
        };
        let head = format!("witness A {one}\nwitness B {two}\n");
        let cases = [
            ("quorum A\nquorum A\n", 4, LineFault::Twice),
            ("quorum C\n", 3, LineFault::Unknown),
            ("quorum A B\n", 3, LineFault::Shape),
            ("Quorum A\n", 3, LineFault::Shape),
            ("group G any\n", 3, LineFault::Threshold),
            ("group G 0 A\n", 3, LineFault::Threshold),
            ("group G 3 A B\n", 3, LineFault::Threshold),
            ("group G -1 A B\n", 3, LineFault::Threshold),
            ("group G some A B\n", 3, LineFault::Threshold),
            ("group G all A A\n", 3, LineFault::MemberTwice),
            ("group G all A\ngroup H all A B\n", 4, LineFault::MemberTwice),
            ("group G all G\n", 3, LineFault::Unknown),
            ("group G all none\n", 3, LineFault::Unknown),
            ("group none all A\n", 3, LineFault::Twice),
            ("group A all B\n", 3, LineFault::Twice),
            ("quorum\u{b}A\n", 3, LineFault::Character),
            ("quorum A\r\n", 3, LineFault::Character),
            ("log A\n", 3, LineFault::Key(VerifierKeyError::Malformed)),
        ];
        for (tail, number, fault) in cases {
            assert_eq!(line(format!("{head}{tail}")), (number, fault), "{tail}");
        }
        assert_eq!(line(format!("witness A {one}\nwitness B {one}\n")), (2, LineFault::Twice));
        assert_eq!(line(format!("log {log}\nlog {again} https://x\n")), (2, LineFault::Twice));
        let kinds = line(format!("log {one}\n")).1;
        assert!(matches!(kinds, LineFault::Key(VerifierKeyError::Type { .. })), "{kinds:?}");
        assert_eq!(WitnessPolicy::parse(head.as_bytes()), Err(PolicyError::NoQuorum));
        assert_eq!(WitnessPolicy::parse(b"quorum none"), Err(PolicyError::Unfinished));
        assert_eq!(WitnessPolicy::parse(b""), Err(PolicyError::Unfinished));
        let long = "#".repeat(POLICY_BYTES_MAX) + "\n";
        assert_eq!(WitnessPolicy::parse(long.as_bytes()), Err(PolicyError::TooLong));
    }

    #[test]
    fn as_many_as_the_specification_recommends_are_read_and_not_endlessly_many() {
        let file = |count: u64| {
            let lines = (0..count).map(|seed| format!("witness W{seed} {}\n", witness(seed)));
            let groups = (0..count).map(|seed| format!("group G{seed} any W{seed}\n"));
            lines.chain(groups).collect::<String>() + "quorum G0\n"
        };
        assert!(WitnessPolicy::parse(file(32).as_bytes()).is_ok());
        assert!(WitnessPolicy::parse(file(64).as_bytes()).is_ok());
        let refused = WitnessPolicy::parse(file(65).as_bytes());
        let fault = LineFault::TooMany;
        assert_eq!(refused, Err(PolicyError::Line { number: 65, fault }));
    }
}
