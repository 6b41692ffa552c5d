//! Who may act in the bank's name, and who is another person.
//!
//! A certificate says a name; whose it is the register says, by the hash of its key. Each row of the register
//! is told by a signed entry of the ledger, so that neither the owner of the authority's key nor whoever
//! writes the database makes a second person.

use std::collections::BTreeMap;
use std::sync::RwLock;

use super::Gateway;
use super::act::Write;
use super::error::GatewayError;
use super::proposal::{Content as Proposed, commit_of};
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::four_eyes::{StaffRole, TwoPersonAct};
use crate::domain::id::{PrincipalName, ProposalId, TenantId, UnitName};
use crate::receipt::{self, Administration, Content, verify};
use crate::store::{EntryFilter, PrincipalRow, StoreError, UnitOfWork};

/// The word of the entry of a person whom two others registered.
pub(super) const REGISTERED: &str = "principal_registered";

/// The word of the entry of people whom the root key's holder registered.
const PINNED: &str = "principals_pinned";

/// Most people of one act of the root key's holder.
const PINNED_MAX: usize = 1000;

/// Somebody who is to act in the bank's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPrincipal {
    /// What they may do.
    pub role: StaffRole,
    /// Their name, as their certificate says it.
    pub name: PrincipalName,
    /// Where they work.
    pub unit: UnitName,
    /// SHA-256 of their certificate's `SubjectPublicKeyInfo`.
    pub spki: Digest,
}

impl NewPrincipal {
    /// The person as receipts name them: `admin/aizhan@operations`.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}/{}@{}", self.role.as_str(), self.name, self.unit)
    }

    /// What entries about them commit to.
    pub(super) fn particulars(people: &[Self]) -> Digest {
        sha256(&fields(b"tulga-principals-v1", b"", people))
    }
}

impl From<&PrincipalRow> for NewPrincipal {
    fn from(row: &PrincipalRow) -> Self {
        let PrincipalRow { spki, role, name, unit, .. } = row;
        Self { role: *role, name: name.clone(), unit: unit.clone(), spki: *spki }
    }
}

/// What the root key's holder does to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootAct {
    /// Registers them.
    Pin,
    /// Revokes their keys.
    Unpin,
}

/// The bytes that the root key signs, of people in the order of their keys' hashes; `docs/people.md` has them.
#[must_use]
pub fn root_act_message(tenant: &TenantId, act: RootAct, people: &[NewPrincipal]) -> Vec<u8> {
    let context: &[u8] = match act {
        RootAct::Pin => b"tulga-principals-pin-v1",
        RootAct::Unpin => b"tulga-principals-unpin-v1",
    };
    fields(context, tenant.as_str().as_bytes(), &in_order(people.to_vec()))
}

fn fields(context: &[u8], tenant: &[u8], people: &[NewPrincipal]) -> Vec<u8> {
    let mut fields = vec![context, tenant];
    for person in people {
        fields.extend([
            person.role.as_str().as_bytes(),
            person.name.as_str().as_bytes(),
            person.unit.as_str().as_bytes(),
            person.spki.as_bytes().as_slice(),
        ]);
    }
    length_prefixed(&fields)
}

fn in_order(mut people: Vec<NewPrincipal>) -> Vec<NewPrincipal> {
    people.sort_by_key(|person| person.spki);
    people
}

/// One of two people: the name that they were known by and the key that they had.
#[derive(Clone, Copy)]
pub(super) struct Person<'a> {
    pub name: &'a PrincipalName,
    pub key: &'a Digest,
}

impl<'a> Person<'a> {
    pub const fn of(name: &'a PrincipalName, key: &'a Digest) -> Self {
        Self { name, key }
    }

    /// Whether it may be one person: who has one's name or one's key is.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name || self.key == other.key
    }
}

/// Refuses whoever may not approve what the first one proposed. This is the one meaning of "another person":
/// another name, another key, another unit, and both keys registered and not revoked.
pub(super) async fn require_another(
    unit: &mut dyn UnitOfWork,
    first: Person<'_>,
    second: Person<'_>,
) -> Result<(), GatewayError> {
    if first.is(&second) {
        return Err(GatewayError::State(
            "another person must approve, with another name and another key",
        ));
    }
    let first = registered(unit, first).await?;
    let first = first.ok_or(GatewayError::State(
        "the key of whoever proposed it is not registered, or was revoked",
    ))?;
    let second = registered(unit, second).await?;
    let second = second.ok_or(GatewayError::State(
        "the key of whoever approves is not registered, or was revoked",
    ))?;
    if first.unit == second.unit {
        return Err(GatewayError::State("a person of another unit must approve"));
    }
    Ok(())
}

/// Somebody's row, if their key counts.
pub(super) async fn registered(
    unit: &mut dyn UnitOfWork,
    person: Person<'_>,
) -> Result<Option<PrincipalRow>, GatewayError> {
    let row = unit.principal(person.key).await?;
    Ok(row.filter(|row| row.name == *person.name && row.revoked.is_none()))
}

/// One write about people.
pub(super) enum PeopleWrite {
    /// Registers them; by the proposal that two people agreed on, where they did.
    Register(Vec<NewPrincipal>, Option<ProposalId>),
    /// Revokes their keys.
    Revoke(Vec<Digest>),
}

impl PeopleWrite {
    pub async fn apply(&self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<(), GatewayError> {
        match self {
            Self::Register(people, proposal) => {
                for person in people {
                    register(unit, person, *proposal, slot).await?;
                }
            }
            Self::Revoke(keys) => {
                for key in keys {
                    if !unit.revoke_principal(key, slot.now, slot.place).await? {
                        return Err(GatewayError::NotFound("registered key"));
                    }
                }
            }
        }
        Ok(())
    }
}

async fn register(
    unit: &mut dyn UnitOfWork,
    person: &NewPrincipal,
    proposal: Option<ProposalId>,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let NewPrincipal { role, name, unit: works_in, spki } = person.clone();
    let known = unit.principals_named(&name).await?;
    // Or one person could be of two units, and agree with themself but for the name.
    if known.iter().any(|row| row.revoked.is_none() && row.unit != works_in) {
        return Err(GatewayError::State("the person is registered in another unit"));
    }
    let row = PrincipalRow {
        spki,
        role,
        name,
        unit: works_in,
        registered_at: slot.now,
        index: slot.place,
        proposal,
        revoked: None,
    };
    unit.insert_principal(&row).await.map_err(|error| match error {
        StoreError::Exists => GatewayError::Exists("registered key"),
        other => GatewayError::Store(other),
    })
}

/// Rows of the register whose entries were read and say the same.
#[derive(Debug, Default)]
pub(super) struct Told(RwLock<BTreeMap<Digest, PrincipalRow>>);

impl Told {
    fn knows(&self, row: &PrincipalRow) -> Result<bool, GatewayError> {
        let told = self.0.read().map_err(|_| GatewayError::broken("people lock"))?;
        Ok(told.get(&row.spki).is_some_and(|known| is_as_told(known, row)))
    }

    fn keep(&self, row: &PrincipalRow) -> Result<(), GatewayError> {
        let mut told = self.0.write().map_err(|_| GatewayError::broken("people lock"))?;
        told.insert(row.spki, row.clone());
        Ok(())
    }
}

/// The same but for a revocation.
fn is_as_told(known: &PrincipalRow, row: &PrincipalRow) -> bool {
    PrincipalRow { revoked: row.revoked, ..known.clone() } == *row
}

impl Gateway {
    /// Whether somebody may act in a role under a name with a key; asked once a call.
    ///
    /// # Errors
    ///
    /// What the store cannot do, or a row that no entry tells of; nobody is admitted then.
    pub async fn admits_person(
        &self,
        role: StaffRole,
        name: &PrincipalName,
        key: &Digest,
    ) -> Result<bool, GatewayError> {
        let Some(row) = self.store.principal(key).await? else { return Ok(false) };
        if row.revoked.is_some() || row.role != role || row.name != *name {
            return Ok(false);
        }
        self.require_told(&row).await?;
        Ok(true)
    }

    /// Refuses a row that no signed entry tells of: somebody else wrote it.
    pub(super) async fn require_told(&self, row: &PrincipalRow) -> Result<(), GatewayError> {
        if self.people.knows(row)? {
            return Ok(());
        }
        let said = self.act_at(row.index).await?;
        if !self.tells(&said, row).await? {
            return Err(SAYS_ELSE);
        }
        self.people.keep(row)
    }

    /// The act that the signed entry at a place tells of.
    pub(super) async fn act_at(&self, place: u64) -> Result<Administration, GatewayError> {
        let position = self.position(place)?;
        let entry = self.store.entry(position.origin.as_str(), position.index).await?;
        let entry = entry.ok_or(GatewayError::broken("a row has no ledger entry"))?;
        let verified = verify(&entry.jws, &self.keyring.installed()?.register)
            .map_err(|cause| GatewayError::internal("the entry of a row", cause))?;
        let body = verified.body();
        let is_there =
            body.log.origin == position.origin.as_str() && body.log.index == position.index;
        match &body.content {
            Content::Administration(said) if is_there => Ok(said.clone()),
            _ => Err(SAYS_ELSE),
        }
    }

    async fn tells(&self, said: &Administration, row: &PrincipalRow) -> Result<bool, GatewayError> {
        let person = NewPrincipal::from(row);
        let (act, details) = if let Some(id) = &row.proposal {
            let act = TwoPersonAct::PrincipalRegistration;
            (REGISTERED, commit_of(id, act, &Proposed::Person(person)))
        } else {
            let rows = self.store.principals_of_entry(row.index).await?;
            let people: Vec<_> = rows.iter().map(NewPrincipal::from).collect();
            (PINNED, NewPrincipal::particulars(&people))
        };
        Ok(said.act == act && said.details == Some(details.labelled()))
    }

    /// Whether the ledger tells of people whom the root key's holder registered, whatever the register says.
    ///
    /// # Errors
    ///
    /// What the store cannot do, or an entry that does not verify.
    pub async fn was_anybody_pinned(&self) -> Result<bool, GatewayError> {
        const PAGE: u32 = 1_000;
        let installed = self.keyring.installed()?;
        let mut from = 0;
        loop {
            let page = self.entries(from, &EntryFilter::default(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(false) };
            from = last.place + 1;
            for entry in &page {
                let verified = verify(&entry.jws, &installed.register)
                    .map_err(|cause| GatewayError::internal("an entry", cause))?;
                match &verified.body().content {
                    Content::Administration(said) if said.act == PINNED => return Ok(true),
                    _ => {}
                }
            }
        }
    }

    /// Registers people on the word of the root key's holder: the first ones, and whoever is needed where
    /// too few are left to agree.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a signature that is not the root key's over these people;
    /// [`GatewayError::Exists`] for a key that was ever registered.
    pub async fn pin_principals(
        &self,
        people: Vec<NewPrincipal>,
        signature: &[u8],
    ) -> Result<Logged, GatewayError> {
        let people = in_order(people);
        self.require_root(RootAct::Pin, &people, signature)?;
        let details = NewPrincipal::particulars(&people);
        self.act_of_root(PINNED, &people, details, PeopleWrite::Register(people.clone(), None))
            .await
    }

    /// Revokes people's keys on the word of the root key's holder.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for a signature that is not the root key's over these people;
    /// [`GatewayError::NotFound`] for a key that is not registered, or revoked.
    pub async fn unpin_principals(
        &self,
        people: Vec<NewPrincipal>,
        signature: &[u8],
    ) -> Result<Logged, GatewayError> {
        let people = in_order(people);
        self.require_root(RootAct::Unpin, &people, signature)?;
        let details = NewPrincipal::particulars(&people);
        let keys = people.iter().map(|person| person.spki).collect();
        self.act_of_root("principals_unpinned", &people, details, PeopleWrite::Revoke(keys)).await
    }

    fn require_root(
        &self,
        act: RootAct,
        people: &[NewPrincipal],
        signature: &[u8],
    ) -> Result<(), GatewayError> {
        let invalid = |field, problem| GatewayError::Invalid { field, problem };
        if people.is_empty() || people.len() > PINNED_MAX {
            return Err(invalid("people", "there must be 1 to 1000"));
        }
        let message = root_act_message(&self.settings.tenant, act, people);
        let root = self.keyring.installed()?.files.root;
        root.verify(&message, signature)
            .map_err(|_| invalid("signature", "it is not the root key's over these people"))
    }

    async fn act_of_root(
        &self,
        act: &'static str,
        people: &[NewPrincipal],
        details: Digest,
        write: PeopleWrite,
    ) -> Result<Logged, GatewayError> {
        let subject = match people {
            [person] => Some(person.subject()),
            _ => None,
        };
        let root = self.keyring.installed()?.files.root;
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt::Actor {
                role: "root".to_owned(),
                name: "root".to_owned(),
                cert: root.fingerprint().labelled(),
            },
            subject,
            details: Some(details.labelled()),
        });
        self.perform_as(content, None, vec![Write::People(write)]).await
    }

    /// Registered keys, revoked ones too, in the order of their hashes.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn principals(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<PrincipalRow>, GatewayError> {
        Ok(self.store.principals(after, limit).await?)
    }

    /// Proposes to register somebody.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] for a key that was ever registered, or when the same is proposed already.
    pub async fn propose_principal(
        &self,
        actor: &Actor,
        person: NewPrincipal,
    ) -> Result<super::Proposal, GatewayError> {
        if self.store.principal(&person.spki).await?.is_some() {
            return Err(GatewayError::Exists("registered key"));
        }
        let (act, subject) = (TwoPersonAct::PrincipalRegistration, person.subject());
        self.propose_act(actor, act, None, subject, Proposed::Person(person), vec![]).await
    }

    /// Proposes to revoke somebody's key.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] for a key that is not registered, or revoked; [`GatewayError::Exists`] when
    /// the same person proposed the same already.
    pub async fn propose_revocation(
        &self,
        actor: &Actor,
        key: &Digest,
    ) -> Result<super::Proposal, GatewayError> {
        let row = self.store.principal(key).await?.filter(|row| row.revoked.is_none());
        let row = row.ok_or(GatewayError::NotFound("registered key"))?;
        let person = NewPrincipal::from(&row);
        let (act, subject) = (TwoPersonAct::PrincipalRevocation, person.subject());
        self.propose_act(actor, act, None, subject, Proposed::Person(person), vec![]).await
    }
}

/// Of a row that is not as its entry tells.
pub(super) const SAYS_ELSE: GatewayError =
    GatewayError::Internal("the entry of a row says something else", None);
