//! Seals templates and other secrets at rest; additional data binds a ciphertext to its row.
//!
//! ```text
//! key-encryption key (a file, or sealed by a token)
//!   -> wraps one data key and one pseudonym key a customer -> seals rows
//!   -> wraps one key a kept picture                        -> seals the picture
//!   -> wraps the vault's own keys: of keyed indices, and of what belongs to no customer
//! ```
//!
//! When the key-encryption key changes, what it wraps is wrapped anew, and what is sealed under that stays.
//! A vault of before derived its own keys from its key-encryption key; it goes on with the same ones.
//!
//! Whoever holds the key-encryption key can recover everything sealed under it, embeddings included.
//! Erasing a customer destroys their wrapped keys: what was sealed under them opens no more, and
//! their pseudonym links to nobody.

mod evidence;
mod held;
mod kek;
mod place;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::{AeadError, Digest, Entropy, EntropyError, MacKey, SealingKey, random_bytes};
use crate::domain::id::{CustomerId, TenantId, TerminalId};
use crate::domain::iin::Iin;
use crate::domain::transaction::{OpaqueToken, TokenKind};
use crate::store::CustomerKeyRow;

pub use evidence::SealedEvidence;
use held::Ring;
pub use kek::{
    FIRST_KEK, KekHome, KekName, KekSecret, VaultError, create_kek_file, read_kek_file,
    read_private, write_private,
};
pub use place::Place;

/// Holds the key-encryption keys, and the vault's own keys that are wrapped under them.
pub struct Vault {
    home: Option<Box<dyn KekHome>>,
    ring: RwLock<Arc<Ring>>,
    opens: Opens,
}

/// How often anything sealed was opened.
#[derive(Clone, Debug, Default)]
struct Opens(Arc<AtomicU64>);

impl Opens {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Vault {
    /// The vault of one key-encryption key of 32 bytes, which has no home. Its own keys are derived from
    /// it until [`Vault::take_own`].
    #[must_use]
    pub fn new(kek: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(kek);
        let secret = KekSecret { name: FIRST_KEK.to_owned(), home: "file", bytes };
        let ring = RwLock::new(Arc::new(Ring::with(&secret, &[])));
        Self { home: None, ring, opens: Opens::default() }
    }

    /// The vault of all the keys of a home. Which is current, and what its own keys are, is the store's to
    /// say; until then it is as a vault of the oldest one.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when there is none, or one cannot be read.
    pub fn open(home: Box<dyn KekHome>) -> Result<Self, VaultError> {
        let secrets = home.load()?;
        let Some((first, others)) = secrets.split_first() else {
            return Err(VaultError::Missing { id: FIRST_KEK.to_owned() });
        };
        let ring = RwLock::new(Arc::new(Ring::with(first, others)));
        Ok(Self { home: Some(home), ring, opens: Opens::default() })
    }

    /// The vault of a single file of 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when the file cannot be read, others may read it too, or it is no key.
    pub fn load(path: &Path) -> Result<Self, VaultError> {
        Ok(Self::new(*read_kek_file(path)?))
    }

    /// Fresh keys for a customer, and their wrapped form.
    ///
    /// # Errors
    ///
    /// [`AeadError`] when the source of chance fails.
    pub fn new_customer(
        &self,
        tenant: &TenantId,
        customer: &CustomerId,
        entropy: &dyn Entropy,
    ) -> Result<(CustomerKeys, CustomerKeyRow), AeadError> {
        let plain: Zeroizing<[u8; 64]> =
            Zeroizing::new(random_bytes(entropy).map_err(|EntropyError| AeadError::Seal)?);
        let ring = self.ring();
        let kek_id = ring.current().name.id.clone();
        let place = key_place(tenant, customer, &kek_id);
        let wrapped = ring.current().wrap.seal(&place.aad(), plain.as_slice(), entropy)?;
        let keys = CustomerKeys::from_plain(plain.as_slice(), self.opens.clone())?;
        Ok((keys, CustomerKeyRow { customer: *customer, kek_id, wrapped }))
    }

    /// Unwraps a customer's keys.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another customer's row, a key-encryption key that is not held, altered bytes.
    pub fn open_keys(
        &self,
        tenant: &TenantId,
        row: &CustomerKeyRow,
    ) -> Result<CustomerKeys, AeadError> {
        self.opens.note();
        let aad = key_place(tenant, &row.customer, &row.kek_id).aad();
        let plain = self.ring().unwrap(Some(&row.kek_id), &aad, &row.wrapped)?;
        CustomerKeys::from_plain(&plain, self.opens.clone())
    }

    /// Seals what belongs to no customer: sessions, answers, audit records.
    ///
    /// # Errors
    ///
    /// [`AeadError::Seal`] when the source of chance fails.
    pub fn seal_system(
        &self,
        place: &Place,
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, AeadError> {
        self.ring().own().system.seal(&place.aad(), plain, entropy)
    }

    /// Opens what [`Vault::seal_system`] sealed in the same place.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another place or altered bytes.
    pub fn open_system(
        &self,
        place: &Place,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        self.opens.note();
        self.ring().own().system.open(&place.aad(), sealed)
    }

    /// The keyed hash by which a token finds its customer.
    #[must_use]
    pub fn token_index(&self, tenant: &TenantId, kind: TokenKind, token: &OpaqueToken) -> Digest {
        self.index(&[
            b"token",
            tenant.as_str().as_bytes(),
            kind.as_str().as_bytes(),
            token.expose().as_bytes(),
        ])
    }

    /// The keyed hash by which an IIN finds its customer.
    #[must_use]
    pub fn iin_index(&self, tenant: &TenantId, iin: &Iin) -> Digest {
        self.index(&[b"iin", tenant.as_str().as_bytes(), iin.expose()])
    }

    /// The keyed hash by which the number that a guest gave is found: apart from customers' hashes.
    #[must_use]
    pub fn guest_index(&self, tenant: &TenantId, iin: &Iin) -> Digest {
        self.index(&[b"guest", tenant.as_str().as_bytes(), iin.expose()])
    }

    /// The keyed hash of a terminal's id, by which registers list terminals.
    #[must_use]
    pub fn device_index(&self, tenant: &TenantId, terminal: &TerminalId) -> Digest {
        self.index(&[b"device", tenant.as_str().as_bytes(), terminal.as_str().as_bytes()])
    }

    /// The keyed hash by which a capture is known again, of SHA-256 of its bytes: whoever reads the table
    /// cannot try pictures against it.
    #[must_use]
    pub fn capture_index(&self, tenant: &TenantId, capture: &Digest) -> Digest {
        self.index(&[b"capture", tenant.as_str().as_bytes(), capture.as_bytes()])
    }

    /// The keyed hash under which a customer's tries are counted.
    #[must_use]
    pub fn tries_of_customer(&self, tenant: &TenantId, customer: &CustomerId) -> Digest {
        self.index(&[b"tries", tenant.as_str().as_bytes(), b"customer", customer.as_bytes()])
    }

    /// The keyed hash under which tries are counted of whoever a reference leads to when it leads to
    /// nobody; `pseudonym` is theirs.
    #[must_use]
    pub fn tries_of_nobody(&self, tenant: &TenantId, pseudonym: &str) -> Digest {
        self.index(&[b"tries", tenant.as_str().as_bytes(), b"nobody", pseudonym.as_bytes()])
    }

    /// The keyed hash under which a terminal's tries are counted.
    #[must_use]
    pub fn tries_of_terminal(&self, tenant: &TenantId, terminal: &TerminalId) -> Digest {
        let terminal = terminal.as_str().as_bytes();
        self.index(&[b"tries", tenant.as_str().as_bytes(), b"terminal", terminal])
    }

    /// How often anything sealed was opened since the vault was made.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub fn opens(&self) -> u64 {
        self.opens.0.load(Ordering::Relaxed)
    }

    /// A pseudonym for whoever a reference leads to when it leads to nobody: of the same shape, and the
    /// same each time, as a customer's is. `reference` is a keyed index of this vault.
    #[must_use]
    pub fn pseudonym_of_nobody(&self, tenant: &TenantId, reference: &Digest) -> String {
        let mac = self.index(&[b"nobody", tenant.as_str().as_bytes(), reference.as_bytes()]);
        URL_SAFE_NO_PAD.encode(mac.as_bytes())
    }

    /// The keyed hash by which a customer who was erased is remembered, outside the database.
    #[must_use]
    pub fn erased_mark(&self, tenant: &TenantId, customer: &CustomerId) -> Digest {
        self.index(&[b"erased", tenant.as_str().as_bytes(), customer.as_bytes()])
    }

    /// The keyed hash by which a customer who withdrew their consent is remembered, outside the database.
    #[must_use]
    pub fn withdrawn_mark(&self, tenant: &TenantId, customer: &CustomerId) -> Digest {
        self.index(&[b"withdrawn", tenant.as_str().as_bytes(), customer.as_bytes()])
    }

    fn index(&self, fields: &[&[u8]]) -> Digest {
        self.ring().own().index.mac(fields)
    }
}

/// Where a customer's keys are wrapped to: the key-encryption key is part of the place.
fn key_place(tenant: &TenantId, customer: &CustomerId, kek_id: &str) -> Place {
    let row = kek_id.as_bytes();
    Place::of_customer("customer_keys", "wrapped", tenant.as_str(), customer, row)
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.current_kek().id)
    }
}

/// One customer's keys: erased with them.
#[derive(Debug)]
pub struct CustomerKeys {
    data: SealingKey,
    pseudonym: MacKey,
    opens: Opens,
}

impl CustomerKeys {
    fn from_plain(plain: &[u8], opens: Opens) -> Result<Self, AeadError> {
        let (data, pseudonym) = plain.split_at_checked(32).ok_or(AeadError::Open)?;
        let key = |bytes: &[u8]| {
            <[u8; 32]>::try_from(bytes).map(Zeroizing::new).map_err(|_| AeadError::Open)
        };
        Ok(Self {
            data: SealingKey::new(*key(data)?),
            pseudonym: MacKey::new(*key(pseudonym)?),
            opens,
        })
    }

    /// Seals one of the customer's rows.
    ///
    /// # Errors
    ///
    /// [`AeadError::Seal`] when the source of chance fails.
    pub fn seal(
        &self,
        place: &Place,
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, AeadError> {
        self.data.seal(&place.aad(), plain, entropy)
    }

    /// Opens one of the customer's rows.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another row or altered bytes.
    pub fn open(&self, place: &Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        self.opens.note();
        self.data.open(&place.aad(), sealed)
    }

    /// The customer's name in receipts: the same in each, and linked to nobody after erasure.
    #[must_use]
    pub fn pseudonym(&self, tenant: &TenantId, customer: &CustomerId) -> String {
        let mac =
            self.pseudonym.mac(&[b"subject", tenant.as_str().as_bytes(), customer.as_bytes()]);
        URL_SAFE_NO_PAD.encode(mac.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::crypto::SeededEntropy;

    fn tenant() -> TenantId {
        TenantId::try_from("bank-a").unwrap()
    }

    #[test]
    fn a_row_moved_to_another_customer_column_or_row_does_not_open() {
        let chance = SeededEntropy::new(1);
        let vault = Vault::new([7; 32]);
        let (a, b) = (CustomerId::new([1; 16]), CustomerId::new([2; 16]));
        let (keys, _) = vault.new_customer(&tenant(), &a, &chance).unwrap();
        let place = Place::of_customer("captures", "sealed", "bank-a", &a, b"1");
        let sealed = keys.seal(&place, b"template", &chance).unwrap();
        assert_eq!(keys.open(&place, &sealed).unwrap().as_slice(), b"template");
        for other in [
            Place::of_customer("captures", "sealed", "bank-a", &b, b"1"),
            Place::of_customer("captures", "other", "bank-a", &a, b"1"),
            Place::of_customer("captures", "sealed", "bank-b", &a, b"1"),
            Place::of_customer("captures", "sealed", "bank-a", &a, b"2"),
            place.with_modality("finger"),
        ] {
            assert_eq!(keys.open(&other, &sealed), Err(AeadError::Open));
        }
    }

    #[test]
    fn wrapped_keys_open_for_their_customer_and_key_only() {
        let chance = SeededEntropy::new(1);
        let vault = Vault::new([7; 32]);
        let customer = CustomerId::new([1; 16]);
        let (keys, row) = vault.new_customer(&tenant(), &customer, &chance).unwrap();
        let again = vault.open_keys(&tenant(), &row).unwrap();
        assert_eq!(again.pseudonym(&tenant(), &customer), keys.pseudonym(&tenant(), &customer));
        let moved = CustomerKeyRow { customer: CustomerId::new([2; 16]), ..row.clone() };
        assert!(vault.open_keys(&tenant(), &moved).is_err());
        assert!(Vault::new([8; 32]).open_keys(&tenant(), &row).is_err());
        let mut flipped = row.clone();
        flipped.wrapped[20] ^= 1;
        assert!(vault.open_keys(&tenant(), &flipped).is_err());
    }

    #[test]
    fn indices_and_pseudonyms_separate_what_must_be_separate() {
        let vault = Vault::new([7; 32]);
        let token = OpaqueToken::try_from("4011").unwrap();
        let card = vault.token_index(&tenant(), TokenKind::Card, &token);
        assert_ne!(card, vault.token_index(&tenant(), TokenKind::Account, &token));
        assert_ne!(card, Vault::new([8; 32]).token_index(&tenant(), TokenKind::Card, &token));
        let chance = SeededEntropy::new(1);
        let customer = CustomerId::new([1; 16]);
        let (keys, _) = vault.new_customer(&tenant(), &customer, &chance).unwrap();
        let nobody = |n| vault.pseudonym_of_nobody(&tenant(), &Digest::new([n; 32]));
        assert_eq!(nobody(3).len(), keys.pseudonym(&tenant(), &customer).len());
        assert_eq!(nobody(3), nobody(3));
        assert_ne!(nobody(3), nobody(4));
    }

    #[test]
    fn an_erased_customer_s_rows_open_under_no_later_key() {
        let chance = SeededEntropy::new(1);
        let vault = Vault::new([7; 32]);
        let customer = CustomerId::new([1; 16]);
        let place = Place::of_customer("captures", "sealed", "bank-a", &customer, b"1");
        let (keys, _) = vault.new_customer(&tenant(), &customer, &chance).unwrap();
        let sealed = keys.seal(&place, b"template", &chance).unwrap();
        let subject = keys.pseudonym(&tenant(), &customer);
        drop(keys);
        // The same id enrolled again gets other keys: the old rows and receipts stay unlinked.
        let (later, _) = vault.new_customer(&tenant(), &customer, &chance).unwrap();
        assert_eq!(later.open(&place, &sealed), Err(AeadError::Open));
        assert_eq!(vault.open_system(&place, &sealed), Err(AeadError::Open));
        assert_ne!(later.pseudonym(&tenant(), &customer), subject);
    }

    #[test]
    fn a_system_row_opens_in_its_place_only_and_no_bit_may_change() {
        let chance = SeededEntropy::new(1);
        let vault = Vault::new([7; 32]);
        let place = Place::system("challenges", "sealed_session", "bank-a", b"1");
        let sealed = vault.seal_system(&place, b"session", &chance).unwrap();
        assert_eq!(vault.open_system(&place, &sealed).unwrap().as_slice(), b"session");
        for other in [
            Place::system("decisions", "sealed_session", "bank-a", b"1"),
            Place::system("challenges", "sealed_session", "bank-a", b"2"),
            Place::system("challenges", "sealed_session", "bank-b", b"1"),
        ] {
            assert_eq!(vault.open_system(&other, &sealed), Err(AeadError::Open));
        }
        assert!(Vault::new([8; 32]).open_system(&place, &sealed).is_err());
        for place_of_bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[place_of_bit / 8] ^= 1 << (place_of_bit % 8);
            assert_eq!(vault.open_system(&place, &flipped), Err(AeadError::Open));
        }
    }

    /// Computed with Python's `hmac` and `cryptography`: a label that changes by accident would lock
    /// up everything that was ever sealed.
    #[test]
    fn what_is_derived_and_sealed_stays_as_it_was() {
        let vault = Vault::new([7; 32]);
        assert_eq!(vault.current_kek().id, "454470de");
        let token = OpaqueToken::try_from("4011").unwrap();
        assert_eq!(
            vault.token_index(&tenant(), TokenKind::Card, &token).hex(),
            "ddeceb5546539bc1f0c9282fca7e004d54841dfc185d3a52a6dd01b4e25ebe4a"
        );
        let iin = Iin::try_from("000000300017").unwrap();
        assert_eq!(
            vault.iin_index(&tenant(), &iin).hex(),
            "d3dea4c7ebb5bd8e2d5e08972d26c8059ec0d62302833209dd05e43365ce0661"
        );
        let keys = CustomerKeys::from_plain(&[9; 64], Opens::default()).unwrap();
        assert_eq!(
            keys.pseudonym(&tenant(), &CustomerId::new([1; 16])),
            "a0FVGh8TkD_mwWeOFrTqkQfju7Ee-daMLcD5CkcQfmI"
        );
        let sealed = "000102030405060708090a0b8d04b9244d22c577814026663b374131e3083b420942";
        let sealed: Vec<u8> = (0..sealed.len() / 2)
            .map(|at| u8::from_str_radix(&sealed[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let place = Place::system("audit", "sealed", "bank-a", b"r1");
        assert_eq!(vault.open_system(&place, &sealed).unwrap().as_slice(), b"record");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        create_kek_file(&path, &SeededEntropy::new(1)).unwrap();
        assert!(Vault::load(&path).is_ok());
        let again = create_kek_file(&path, &SeededEntropy::new(2));
        assert!(matches!(again, Err(VaultError::File(_))), "nothing is overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Vault::load(&path), Err(VaultError::Exposed)));
    }
}
