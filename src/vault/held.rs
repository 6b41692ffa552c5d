//! Several key-encryption keys at once: what is wrapped under any of them opens, and what is wrapped now
//! is wrapped under the current one.

use std::sync::{Arc, PoisonError};

use zeroize::Zeroizing;

use super::evidence;
use super::kek::{Kek, KekName, KekSecret, OwnKeys, VaultError};
use super::{Place, Vault, key_place};
use crate::crypto::{AeadError, Entropy, EntropyError, length_prefixed};
use crate::domain::id::TenantId;
use crate::store::{CustomerKeyRow, EvidenceKeyRow, OwnKeyRow};

/// The keys at one moment; a change makes another ring, so that nobody sees one by half.
#[derive(Clone)]
pub(super) struct Ring {
    /// In the order in which they were made.
    keks: Vec<Arc<Kek>>,
    current: Arc<Kek>,
    own: Arc<OwnKeys>,
}

impl Ring {
    /// The oldest key is the current one until somebody who knows better says so.
    pub fn with(first: &KekSecret, others: &[KekSecret]) -> Self {
        let current = Arc::new(Kek::of(first));
        let others = others.iter().map(|secret| Arc::new(Kek::of(secret)));
        let keks = std::iter::once(Arc::clone(&current)).chain(others).collect();
        Self { keks, current, own: Arc::new(OwnKeys::derived(first)) }
    }

    pub fn current(&self) -> &Kek {
        &self.current
    }

    pub fn own(&self) -> &OwnKeys {
        &self.own
    }

    pub fn kek(&self, id: &str) -> Option<&Kek> {
        self.keks.iter().find(|kek| kek.name.id == id).map(|kek| &**kek)
    }

    /// Opens what was wrapped under the key of this id; where none is noted, under any.
    pub fn unwrap(
        &self,
        id: Option<&str>,
        aad: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        if let Some(id) = id {
            return self.kek(id).ok_or(AeadError::Open)?.wrap.open(aad, wrapped);
        }
        let mut opened = self.keks.iter().map(|kek| kek.wrap.open(aad, wrapped));
        opened.find(Result::is_ok).unwrap_or(Err(AeadError::Open))
    }
}

impl Vault {
    /// The key-encryption keys that are held, in the order in which they were made.
    #[must_use]
    pub fn keks(&self) -> Vec<KekName> {
        self.ring().keks.iter().map(|kek| kek.name.clone()).collect()
    }

    /// The one under which everything is wrapped from now on.
    #[must_use]
    pub fn current_kek(&self) -> KekName {
        self.ring().current.name.clone()
    }

    /// Whether all keys lie in memory that is kept out of swap.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let ring = self.ring();
        ring.keks.iter().all(|kek| kek.wrap.is_locked())
            && ring.own.index.is_locked()
            && ring.own.system.is_locked()
    }

    /// Makes another key-encryption key, which is held and not current yet. Blocks.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when it cannot be made or kept.
    pub fn make_kek(&self, entropy: &dyn Entropy) -> Result<KekName, VaultError> {
        let home = self.home.as_ref().ok_or(VaultError::Homeless)?;
        let kek = Arc::new(Kek::of(&home.create(entropy)?));
        let name = kek.name.clone();
        self.change(|ring| ring.keks.push(kek));
        Ok(name)
    }

    /// Wraps under this key from now on.
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`] when it is not held.
    pub fn make_current(&self, id: &str) -> Result<(), VaultError> {
        self.change(|ring| {
            let kek = ring.keks.iter().find(|kek| kek.name.id == id);
            let kek = kek.ok_or_else(|| VaultError::Missing { id: id.to_owned() })?;
            ring.current = Arc::clone(kek);
            Ok(())
        })
    }

    /// Destroys a key that is not the current one, on the disk and in memory: what is wrapped under it
    /// opens no more. Blocks.
    ///
    /// # Errors
    ///
    /// [`VaultError`] when it is the current one or has no home, or may be there still.
    pub fn destroy_kek(&self, id: &str) -> Result<(), VaultError> {
        let home = self.home.as_ref().ok_or(VaultError::Homeless)?;
        let ring = self.ring();
        let missing = || VaultError::Missing { id: id.to_owned() };
        let kek = ring.kek(id).ok_or_else(missing)?;
        if ring.current.name.id == id {
            return Err(missing());
        }
        home.destroy(&kek.name.name)?;
        self.change(|ring| ring.keks.retain(|kek| kek.name.id != id));
        Ok(())
    }

    /// Gives a vault that has sealed nothing yet keys of its own, which follow from no other key.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source of chance fails.
    pub fn make_own(&self, entropy: &dyn Entropy) -> Result<(), EntropyError> {
        let own = Arc::new(OwnKeys::random(entropy)?);
        self.change(|ring| ring.own = own);
        Ok(())
    }

    /// The vault's own keys, wrapped under the current key-encryption key.
    ///
    /// # Errors
    ///
    /// [`AeadError::Seal`] when the source of chance fails.
    pub fn own_rows(
        &self,
        tenant: &TenantId,
        entropy: &dyn Entropy,
    ) -> Result<Vec<OwnKeyRow>, AeadError> {
        let ring = self.ring();
        let kek_id = &ring.current.name.id;
        let keys = [(INDEX, ring.own.index.expose()), (SYSTEM, ring.own.system.expose())];
        let row = |(purpose, key): (&'static str, &[u8; 32])| {
            let aad = own_place(tenant, purpose, kek_id).aad();
            let wrapped = ring.current.wrap.seal(&aad, key, entropy)?;
            Ok(OwnKeyRow { purpose: purpose.to_owned(), kek_id: kek_id.clone(), wrapped })
        };
        keys.into_iter().map(row).collect()
    }

    /// Takes the vault's own keys from their rows.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] when a row is missing, was altered, or is wrapped under a key that is not held.
    pub fn take_own(&self, tenant: &TenantId, rows: &[OwnKeyRow]) -> Result<(), AeadError> {
        let ring = self.ring();
        let open = |purpose: &'static str| {
            let row = rows.iter().find(|row| row.purpose == purpose).ok_or(AeadError::Open)?;
            let aad = own_place(tenant, purpose, &row.kek_id).aad();
            ring.unwrap(Some(&row.kek_id), &aad, &row.wrapped)
        };
        let own = Arc::new(OwnKeys::from_plain(&open(INDEX)?, &open(SYSTEM)?)?);
        self.change(|ring| ring.own = own);
        Ok(())
    }

    /// A customer's keys, the same ones, wrapped under the current key-encryption key.
    ///
    /// # Errors
    ///
    /// As [`Vault::open_keys`].
    pub fn rewrap_customer(
        &self,
        tenant: &TenantId,
        row: &CustomerKeyRow,
        entropy: &dyn Entropy,
    ) -> Result<CustomerKeyRow, AeadError> {
        let ring = self.ring();
        let aad = key_place(tenant, &row.customer, &row.kek_id).aad();
        let plain = ring.unwrap(Some(&row.kek_id), &aad, &row.wrapped)?;
        let kek_id = ring.current.name.id.clone();
        let aad = key_place(tenant, &row.customer, &kek_id).aad();
        let wrapped = ring.current.wrap.seal(&aad, &plain, entropy)?;
        Ok(CustomerKeyRow { customer: row.customer, kek_id, wrapped })
    }

    /// A picture's key, the same one, wrapped under the current key-encryption key.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another decision's key or altered bytes.
    pub fn rewrap_evidence(
        &self,
        tenant: &TenantId,
        row: &EvidenceKeyRow,
        entropy: &dyn Entropy,
    ) -> Result<EvidenceKeyRow, AeadError> {
        let ring = self.ring();
        let aad = evidence::place("wrapped", tenant, &row.receipt).aad();
        let plain = ring.unwrap(row.kek_id.as_deref(), &aad, &row.wrapped)?;
        let wrapped = ring.current.wrap.seal(&aad, &plain, entropy)?;
        Ok(EvidenceKeyRow { kek_id: Some(ring.current.name.id.clone()), wrapped, ..row.clone() })
    }

    /// The keys of this moment.
    pub(super) fn ring(&self) -> Arc<Ring> {
        // Rings are exchanged whole: a thread that broke off left the one before.
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Ring::clone(&ring);
        let told = change(&mut next);
        *ring = Arc::new(next);
        told
    }
}

fn own_place(tenant: &TenantId, purpose: &str, kek_id: &str) -> Place {
    let row = length_prefixed(&[purpose.as_bytes(), kek_id.as_bytes()]);
    Place::system("own_keys", "wrapped", tenant.as_str(), &row)
}

const INDEX: &str = "index";
const SYSTEM: &str = "system";

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::KekHome;
    use super::*;
    use crate::crypto::{SeededEntropy, random_bytes};
    use crate::domain::id::{CustomerId, ReceiptId};
    use crate::domain::iin::Iin;

    /// Keys in memory.
    #[derive(Debug, Default)]
    struct Held(Mutex<Vec<(String, [u8; 32])>>);

    impl KekHome for &'static Held {
        fn load(&self) -> Result<Vec<KekSecret>, VaultError> {
            let held = self.0.lock().unwrap();
            let secret = |(name, bytes): &(String, [u8; 32])| KekSecret {
                name: name.clone(),
                home: "file",
                bytes: Zeroizing::new(*bytes),
            };
            Ok(held.iter().map(secret).collect())
        }

        fn create(&self, entropy: &dyn Entropy) -> Result<KekSecret, VaultError> {
            let mut held = self.0.lock().unwrap();
            let name = format!("kek-{}", held.len() + 1);
            let bytes: [u8; 32] = random_bytes(entropy).map_err(VaultError::Chance)?;
            held.push((name.clone(), bytes));
            Ok(KekSecret { name, home: "file", bytes: Zeroizing::new(bytes) })
        }

        fn destroy(&self, name: &str) -> Result<(), VaultError> {
            self.0.lock().unwrap().retain(|(held, _)| held != name);
            Ok(())
        }
    }

    fn home() -> &'static Held {
        Box::leak(Box::new(Held(Mutex::new(vec![("kek".to_owned(), [7; 32])]))))
    }

    fn tenant() -> TenantId {
        TenantId::try_from("bank-a").unwrap()
    }

    #[test]
    fn what_is_wrapped_under_any_key_that_is_held_opens_and_new_rows_are_under_the_current_one() {
        let (chance, home) = (SeededEntropy::new(1), home());
        let vault = Vault::open(Box::new(home)).unwrap();
        let (a, b) = (CustomerId::new([1; 16]), CustomerId::new([2; 16]));
        let (keys, old) = vault.new_customer(&tenant(), &a, &chance).unwrap();
        let first = vault.current_kek();
        let second = vault.make_kek(&chance).unwrap();
        assert_eq!(vault.current_kek(), first, "a key that was made is not current by that");
        vault.make_current(&second.id).unwrap();
        let (_, new) = vault.new_customer(&tenant(), &b, &chance).unwrap();
        assert_eq!((&old.kek_id, &new.kek_id), (&first.id, &second.id));
        let subject = keys.pseudonym(&tenant(), &a);
        assert_eq!(vault.open_keys(&tenant(), &old).unwrap().pseudonym(&tenant(), &a), subject);
        vault.open_keys(&tenant(), &new).unwrap();
        // A row that says another key than it is wrapped under, and one of another customer.
        for wrong in [
            CustomerKeyRow { kek_id: second.id.clone(), ..old.clone() },
            CustomerKeyRow { customer: b, ..old.clone() },
            CustomerKeyRow { kek_id: "00000000".into(), ..old.clone() },
        ] {
            assert!(vault.open_keys(&tenant(), &wrong).is_err());
            assert!(vault.rewrap_customer(&tenant(), &wrong, &chance).is_err());
        }
        let moved = vault.rewrap_customer(&tenant(), &old, &chance).unwrap();
        assert_eq!(moved.kek_id, second.id);
        let same = vault.open_keys(&tenant(), &moved).unwrap();
        assert_eq!(same.pseudonym(&tenant(), &a), subject, "the customer's keys are the same");

        assert!(vault.destroy_kek(&second.id).is_err(), "the current one stays");
        vault.destroy_kek(&first.id).unwrap();
        assert_eq!(home.0.lock().unwrap().len(), 1);
        assert!(vault.open_keys(&tenant(), &old).is_err());
        vault.open_keys(&tenant(), &moved).unwrap();
        assert!(vault.make_current(&first.id).is_err());
    }

    #[test]
    fn a_picture_s_key_moves_on_and_opens_the_same_picture() {
        let (chance, vault) = (SeededEntropy::new(1), Vault::open(Box::new(home())).unwrap());
        let receipt = ReceiptId::new([1; 16]);
        let kept = vault.seal_evidence(&tenant(), &receipt, b"picture", &chance).unwrap();
        let second = vault.make_kek(&chance).unwrap();
        vault.make_current(&second.id).unwrap();
        // Rows of before have no id noted.
        for kek_id in [kept.kek_id.clone(), None] {
            let wrapped = kept.wrapped.clone();
            let row = EvidenceKeyRow { index: 1, receipt, kek_id, wrapped };
            let moved = vault.rewrap_evidence(&tenant(), &row, &chance).unwrap();
            assert_eq!(moved.kek_id.as_deref(), Some(second.id.as_str()));
            let mut again = kept.clone();
            (again.kek_id, again.wrapped) = (moved.kek_id, moved.wrapped);
            let opened = vault.open_evidence(&tenant(), &receipt, &again).unwrap();
            assert_eq!(opened.as_slice(), b"picture");
            let other = EvidenceKeyRow { receipt: ReceiptId::new([2; 16]), ..row };
            assert!(vault.rewrap_evidence(&tenant(), &other, &chance).is_err());
        }
    }

    #[test]
    fn indices_stay_when_the_key_changes_and_rows_open_their_own_purpose_only() {
        let (chance, home) = (SeededEntropy::new(1), home());
        let vault = Vault::open(Box::new(home)).unwrap();
        let iin = Iin::try_from("000000300017").unwrap();
        let derived = vault.iin_index(&tenant(), &iin);
        let of_old = vault.own_rows(&tenant(), &chance).unwrap();
        vault.make_own(&chance).unwrap();
        let index = vault.iin_index(&tenant(), &iin);
        assert_ne!(index, derived, "they follow from no other key");
        let before = vault.own_rows(&tenant(), &chance).unwrap();
        let second = vault.make_kek(&chance).unwrap();
        vault.make_current(&second.id).unwrap();
        assert_eq!(vault.iin_index(&tenant(), &iin), index);
        let after = vault.own_rows(&tenant(), &chance).unwrap();
        let again = Vault::open(Box::new(home)).unwrap();
        for (rows, expected) in [(&before, index), (&after, index), (&of_old, derived)] {
            again.take_own(&tenant(), rows).unwrap();
            assert_eq!(again.iin_index(&tenant(), &iin), expected);
        }
        let mut swapped = after.clone();
        swapped[0].wrapped = after[1].wrapped.clone();
        swapped[1].wrapped = after[0].wrapped.clone();
        assert!(again.take_own(&tenant(), &swapped).is_err());
        assert!(again.take_own(&tenant(), &after[..1]).is_err());
        let other = TenantId::try_from("bank-b").unwrap();
        assert!(again.take_own(&other, &after).is_err());
    }

    #[test]
    fn a_vault_without_a_home_makes_and_destroys_no_keys() {
        let vault = Vault::new([7; 32]);
        assert!(matches!(vault.make_kek(&SeededEntropy::new(1)), Err(VaultError::Homeless)));
        assert!(vault.destroy_kek(&vault.current_kek().id).is_err());
        assert_eq!(vault.keks(), [vault.current_kek()]);
    }
}
