//! What a ledger sends to a witness (c2sp.org/tlog-witness, `add-checkpoint`): the size that the
//! witness knows, a consistency proof from there, and the signed checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::decimal;
use super::{CheckpointError, NOTE_BYTES_MAX, NoteError};
use crate::crypto::Digest;

/// Longest request read, in bytes: a note and the longest proof before it.
pub const SUBMISSION_BYTES_MAX: usize = NOTE_BYTES_MAX + 4096;

/// The body of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The size that the witness cosigned last, as the ledger believes; 0 for none.
    pub old_size: u64,
    /// The proof that the tree of that size is a prefix of the checkpoint's; empty from size 0.
    pub proof: Vec<Digest>,
    /// The signed checkpoint. Nothing is said yet of who signed it.
    pub note: String,
}

impl Submission {
    /// The request's body.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { old_size, proof, note } = self;
        let proof = proof.iter().map(|hash| STANDARD.encode(hash.as_bytes()) + "\n");
        format!("old {old_size}\n{}\n{note}", proof.collect::<String>())
    }

    /// Reads a request's body, bounded; the note in it is only cut out.
    ///
    /// # Errors
    ///
    /// [`SubmissionError`] for what is not exactly one.
    pub fn parse(body: &[u8]) -> Result<Self, SubmissionError> {
        if body.len() > SUBMISSION_BYTES_MAX {
            return Err(SubmissionError::TooLong);
        }
        let text = std::str::from_utf8(body).map_err(|_| SubmissionError::Malformed)?;
        let (head, note) = text.split_once("\n\n").ok_or(SubmissionError::Malformed)?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(decimal)
            .ok_or(SubmissionError::Malformed)?;
        let proof = lines.map(hash).take(PROOF_HASHES_MAX + 1).collect::<Option<Vec<_>>>();
        let proof = proof.ok_or(SubmissionError::Malformed)?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(SubmissionError::TooLong);
        }
        Ok(Self { old_size, proof, note: note.to_owned() })
    }
}

fn hash(line: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(line).ok()?;
    Digest::try_from(bytes.as_slice()).ok()
}

/// A request that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// More bytes, or more hashes, than a request can have.
    #[error("the request is longer than one can be")]
    TooLong,
    /// Not an old size, hashes, an empty line and a note.
    #[error("it is not an old size, a proof and a checkpoint")]
    Malformed,
    /// The note.
    #[error("the checkpoint is no signed note")]
    Note(#[from] NoteError),
    /// The note's text.
    #[error("the note is no checkpoint")]
    Checkpoint(#[from] CheckpointError),
}

/// As the specification says.
const PROOF_HASHES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let note = "example.com/behind-the-sofa\n20852163\n\
            CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
            \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let body = format!(
            "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
             jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
             5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
             /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n{note}"
        );
        let read = Submission::parse(body.as_bytes()).unwrap();
        assert_eq!((read.old_size, read.proof.len()), (20_852_014, 4));
        assert_eq!(read.note, note);
        assert_eq!(read.to_text(), body);
    }

    #[test]
    fn a_request_without_a_proof_is_one() {
        let request = Submission { old_size: 0, proof: Vec::new(), note: "x\n".to_owned() };
        assert_eq!(request.to_text(), "old 0\n\nx\n");
        assert_eq!(Submission::parse(request.to_text().as_bytes()), Ok(request));
    }

    #[test]
    fn what_is_not_exactly_a_request_is_refused() {
        let hash = STANDARD.encode(sha256(b"x").as_bytes());
        for bad in [
            String::new(),
            "old 1\n".to_owned(),
            "old 01\n\nx\n".to_owned(),
            "old +1\n\nx\n".to_owned(),
            "old -1\n\nx\n".to_owned(),
            "old\n\nx\n".to_owned(),
            "Old 1\n\nx\n".to_owned(),
            "old 9223372036854775808\n\nx\n".to_owned(),
            format!("old 1\n{}\n\nx\n", &hash[1..]),
            format!("old 1\n{hash} \n\nx\n"),
        ] {
            assert_eq!(Submission::parse(bad.as_bytes()), Err(SubmissionError::Malformed), "{bad}");
        }
        assert_eq!(Submission::parse(b"old 1\n\n\xff"), Err(SubmissionError::Malformed));
        let proof = |hashes: usize| format!("old 1\n{}\nx\n", format!("{hash}\n").repeat(hashes));
        assert_eq!(Submission::parse(proof(63).as_bytes()).unwrap().proof.len(), 63);
        assert_eq!(Submission::parse(proof(64).as_bytes()), Err(SubmissionError::TooLong));
        let long = "x".repeat(SUBMISSION_BYTES_MAX + 1);
        assert_eq!(Submission::parse(long.as_bytes()), Err(SubmissionError::TooLong));
    }
}
