//! What is asked of the gateway and what it answers, in the domain's words.

use bytes::Bytes;

use super::activation::SecondPerson;
use super::envelope::Envelope;
use super::locks::BiometricLocks;
use super::proposal::Proposal;
use super::sealing::CaptureKey;
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::Digest;
use crate::domain::decision::Outcome;
use crate::domain::footage::Footage;
use crate::domain::id::{
    Attempt, CaptureId, CaptureKeyId, Challenge, CustomerId, HostTransactionId, PrincipalName,
    ReceiptId, SensorId, TerminalId,
};
use crate::domain::iin::Iin;
use crate::domain::modality::Modality;
use crate::domain::reason::{NextScreen, Reason};
use crate::domain::supplied::Supplied;
use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::transaction::{
    CashOutcome, CustomerReference, HolderVerification, OpaqueToken, TokenKind, Transaction,
};
use crate::ledger::LogPosition;
use crate::store::{ConsentRow, CustomerStatus};

/// Who acts in the office: a name, a role, a certificate's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// `admin`, `enroller`, `host`…
    pub role: &'static str,
    /// The name in the certificate.
    pub name: PrincipalName,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    pub spki: Digest,
}

/// A terminal asks for a challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeginCapture {
    /// Who the terminal says the customer is.
    pub customer: CustomerReference,
    /// What the customer wants done.
    pub transaction: Transaction,
    /// What will be captured, the first first; at least one.
    pub modalities: Vec<Modality>,
    /// What else the customer has shown.
    pub holder_verification: HolderVerification,
    /// What the bank knows and the gateway cannot.
    pub supplied: Supplied,
    /// The depositor's agreement to be enrolled as a guest.
    pub guest_consent: Option<Consent>,
}

/// A terminal asks for a person who is unable to give a biometric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestException {
    /// As for a capture; its modality is not looked at.
    pub asked: BeginCapture,
    /// Which try.
    pub attempt: Attempt,
}

/// The challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedChallenge {
    /// Single use.
    pub challenge: Challenge,
    /// Until when.
    pub expires_at: UnixMillis,
    /// Tries left for this transaction.
    pub attempts_left: u32,
    /// What the capture may be sealed to; none while nothing can be signed.
    pub capture_key: Option<CaptureKey>,
}

/// A terminal sends a capture.
#[derive(Clone, PartialEq, Eq)]
pub struct Verify {
    /// The challenge from `BeginCapture`.
    pub challenge: Challenge,
    /// The host's number.
    pub host_id: HostTransactionId,
    /// The bank's day.
    pub business_date: BusinessDate,
    /// Which try.
    pub attempt: Attempt,
    /// What was captured, in the order of [`BeginCapture::modalities`].
    pub captures: Vec<SentCapture>,
    /// The camera's clip, where the terminal names it.
    pub footage: Option<Footage>,
    /// What sensors signed about the captures: one for each kind of them, or none.
    pub envelopes: Vec<Envelope>,
}

/// One capture as it was sent: open, or sealed to the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentCapture {
    /// The picture.
    pub picture: Picture,
    /// What it is said to be.
    pub declared: Declared,
}

/// A picture as it was sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Picture {
    /// The encoded picture.
    Open(Bytes),
    /// The encoded picture, which nobody on the way can read.
    Sealed(SealedPicture),
}

/// A picture that is sealed to the gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPicture {
    /// To which of its keys.
    pub key_id: CaptureKeyId,
    /// The sensor that sealed it; none where the terminal's PC did.
    pub sensor: Option<SensorId>,
    /// The encapsulated key, followed by the ciphertext with its tag.
    pub sealed: Bytes,
}

impl From<Capture> for SentCapture {
    fn from(capture: Capture) -> Self {
        let Capture { image, declared } = capture;
        Self { picture: Picture::Open(image), declared }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(image) => write!(f, "Picture({} bytes)", image.len()),
            Self::Sealed(sealed) => sealed.fmt(f),
        }
    }
}

impl std::fmt::Debug for SealedPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedPicture({} bytes to {})", self.sealed.len(), self.key_id)
    }
}

/// An enroller asks for a challenge for one capture of a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeginEnrolmentCapture {
    /// Of whom.
    pub customer: CustomerId,
    /// The desk's terminal, at which the sensor is.
    pub terminal: TerminalId,
    /// What will be captured.
    pub modality: Modality,
}

/// A challenge for one capture of a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrolmentChallenge {
    /// Single use.
    pub challenge: Challenge,
    /// Until when.
    pub expires_at: UnixMillis,
    /// What it is for: the answer says it, so that the sensor signs it.
    pub of: BeginEnrolmentCapture,
    /// What the capture may be sealed to; none while nothing can be signed.
    pub capture_key: Option<CaptureKey>,
}

/// A capture that an enroller offers for a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedCapture {
    /// The capture.
    pub capture: SentCapture,
    /// The challenge that it answers; none where it is neither signed nor sealed.
    pub challenge: Option<Challenge>,
    /// What the desk's sensor signed about it.
    pub envelope: Option<Envelope>,
}

impl From<Capture> for OfferedCapture {
    fn from(capture: Capture) -> Self {
        Self { capture: capture.into(), challenge: None, envelope: None }
    }
}

/// One capture as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Capture {
    /// The encoded picture.
    pub image: Bytes,
    /// What it is said to be.
    pub declared: Declared,
}

/// What is said about a picture beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// The kind of file, of a face's picture.
    pub media_type: Option<MediaType>,
    /// The kind of file, of a finger's picture: what may be both says both.
    pub finger_kind: Option<FingerImageKind>,
    /// The resolution, of a finger's picture.
    pub pixels_per_inch: Option<u16>,
    /// Width and height, of a finger's bare pixels.
    pub raw_size: Option<(u32, u32)>,
}

impl Declared {
    /// Whether a picture of a face may be declared so.
    #[must_use]
    pub const fn suits_a_face(&self) -> bool {
        let is_kind_of_face = self.finger_kind.is_none() || self.media_type.is_some();
        is_kind_of_face && self.pixels_per_inch.is_none() && self.raw_size.is_none()
    }

    /// Whether a picture of a finger may be declared so.
    #[must_use]
    pub const fn suits_a_finger(&self) -> bool {
        self.media_type.is_none() || self.finger_kind.is_some()
    }
}

impl Verify {
    /// Whether every capture is sealed to the gateway.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.captures.iter().all(|capture| matches!(capture.picture, Picture::Sealed(_)))
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capture({} bytes)", self.image.len())
    }
}

impl std::fmt::Debug for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verify({}, attempt {}, {:?})", self.host_id, self.attempt.get(), self.captures)
    }
}

/// A decision with its receipt: nothing is answered that is not in the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the terminal may do.
    pub outcome: Outcome,
    /// Why, as far as it may be told.
    pub reasons: Vec<Reason>,
    /// What to show next.
    pub next_screen: NextScreen,
    /// Tries left for this transaction.
    pub attempts_left: u32,
    /// The salts that open the receipt's commitments.
    pub salts: Salts,
    /// The signed receipt.
    pub receipt: Logged,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} at {})", self.outcome.as_str(), self.receipt.index())
    }
}

/// What opens a receipt's commitments; for the host.
#[derive(Clone, PartialEq, Eq)]
pub struct Salts {
    /// Opens `txn.commit`.
    pub transaction: [u8; 32],
    /// Opens `footage`, where the receipt has it.
    pub footage: Option<FootageSalt>,
}

/// A receipt in the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct Logged {
    position: LogPosition,
    place: u64,
    jws: String,
}

impl Logged {
    /// The receipt of an entry that the store has committed: no other way leads to an answer.
    pub(super) const fn committed(position: LogPosition, place: u64, jws: String) -> Self {
        Self { position, place, jws }
    }

    /// Its ledger, and its index there.
    #[must_use]
    pub const fn position(&self) -> &LogPosition {
        &self.position
    }

    /// The ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.position.origin.as_str()
    }

    /// The index in it.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.position.index
    }

    /// The place among the entries of all the gateway's ledgers.
    pub(super) const fn place(&self) -> u64 {
        self.place
    }

    /// The receipt's exact bytes.
    #[must_use]
    pub fn jws(&self) -> &str {
        &self.jws
    }
}

impl std::fmt::Debug for Logged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logged({} {})", self.position.origin, self.position.index)
    }
}

/// A terminal reports what became of the cash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportOutcome {
    /// The host's number.
    pub host_id: HostTransactionId,
    /// The bank's day.
    pub business_date: BusinessDate,
    /// Which try.
    pub attempt: Attempt,
    /// What became of the cash.
    pub outcome: CashOutcome,
    /// How much moved, in minor units; zero for nothing.
    pub dispensed_minor: i64,
    /// In which currency.
    pub currency: crate::domain::money::Currency,
    /// The camera's clip, where the terminal names it.
    pub footage: Option<Footage>,
}

/// The entry of an outcome report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportedOutcome {
    /// The entry.
    pub receipt: Logged,
    /// Opens its commitment to the clip, where the report named one.
    pub footage_salt: Option<FootageSalt>,
}

/// 32 bytes that open a commitment to a clip; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FootageSalt(pub [u8; 32]);

impl std::fmt::Debug for FootageSalt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FootageSalt(…)")
    }
}

/// The customer's consent to biometric identification (the fields that the law names).
#[derive(Clone, PartialEq, Eq)]
pub struct Consent {
    /// Who processes the data.
    pub operator: String,
    /// Who consents.
    pub subject: String,
    /// What for.
    pub purpose: String,
    /// Until when.
    pub until: ConsentTerm,
    /// When it was given.
    pub given_at: UnixMillis,
    /// Where the signed paper or file is kept.
    pub evidence_ref: String,
}

impl std::fmt::Debug for Consent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Consent(…)")
    }
}

/// How long a consent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsentTerm {
    /// Days from when it was given.
    Days(u32),
    /// Until an instant.
    Until(UnixMillis),
}

/// An enroller creates a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateCustomer {
    /// The person's number.
    pub iin: Iin,
    /// Their consent.
    pub consent: Consent,
}

/// An enroller binds a token to a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindToken {
    /// The customer.
    pub customer: CustomerId,
    /// What kind of token.
    pub kind: TokenKind,
    /// The token.
    pub token: OpaqueToken,
    /// Until when.
    pub expires_at: Option<UnixMillis>,
}

/// What became of a capture offered for enrolment.
#[derive(Clone, PartialEq, Debug)]
pub struct CaptureAnswer {
    /// The capture, if it was taken.
    pub capture: Option<CaptureId>,
    /// Set where it is good enough and another person must approve it.
    pub proposal: Option<Box<Proposal>>,
    /// The quality components, named as OFIQ names them.
    pub quality: Vec<QualityComponent>,
    /// Why it was not taken.
    pub reasons: Vec<Reason>,
}

/// One quality component.
#[derive(Clone, PartialEq, Debug)]
pub struct QualityComponent {
    /// OFIQ's name.
    pub name: &'static str,
    /// What was measured.
    pub value: f32,
    /// The nearest bar.
    pub bar: f32,
    /// Whether the bar is met.
    pub ok: bool,
}

/// A customer, without anything personal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomerAnswer {
    /// The customer.
    pub id: CustomerId,
    /// Where they stand.
    pub status: CustomerStatus,
    /// When they were created.
    pub created_at: UnixMillis,
    /// When their status last changed.
    pub updated_at: UnixMillis,
    /// Their captures, and of what.
    pub captures: Vec<(CaptureId, Modality)>,
    /// The kind of each bound token.
    pub tokens: Vec<TokenKind>,
    /// Suspected duplicates that nobody has resolved.
    pub duplicates: Vec<CustomerId>,
    /// An activation that waits for a second person.
    pub needs_second_person: Option<SecondPerson>,
    /// What keeps comparisons from approving.
    pub locks: BiometricLocks,
    /// Until when the consent holds, and what became of it; none once they are erased.
    pub consent: Option<ConsentRow>,
}

/// One row of a bulk import.
#[derive(Clone, Debug)]
pub struct ImportRow {
    /// The customer.
    pub customer: CreateCustomer,
    /// Tokens to bind.
    pub tokens: Vec<(TokenKind, OpaqueToken, Option<UnixMillis>)>,
    /// Encoded pictures, and of what; at least one.
    pub captures: Vec<(Modality, Capture)>,
}

/// What became of a suspected duplicate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DuplicateResolution {
    /// Two people who look alike: the customer becomes active.
    DifferentPeople,
    /// One person twice: the customer becomes suspended.
    SamePerson,
}

/// Whether the host may act on a receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redemption {
    /// The receipt.
    pub receipt: ReceiptId,
    /// When it was first redeemed.
    pub first_redeemed_at: UnixMillis,
    /// Whether this call redeemed it.
    pub redeemed_now: bool,
}
