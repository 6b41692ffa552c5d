//! The people who may act in the bank's name, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::{Fields, stored};
use super::read::parsed;
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::{PrincipalName, ProposalId, UnitName};
use crate::domain::time::UnixMillis;
use crate::store::{PrincipalReads, PrincipalRow, PrincipalWrites, StoreError};

const TABLE: &str = "principals";

/// Every column of a person's key, behind a condition.
macro_rules! principals_where {
    ($condition:literal) => {
        concat!(
            "SELECT spki, role, name, unit, registered_at, entry_index, proposal, revoked_at, ",
            "revoked_index FROM principals WHERE ",
            $condition
        )
    };
}

impl Fields<'_> {
    fn principal(&self) -> Result<PrincipalRow, StoreError> {
        let proposal = self.maybe_bytes("proposal")?;
        let proposal = proposal.map(|bytes| ProposalId::try_from(bytes.as_slice())).transpose();
        Ok(PrincipalRow {
            spki: self.digest("spki")?,
            role: self.word("role", &StaffRole::ALL, StaffRole::as_str)?,
            name: self.principal_name("name")?,
            unit: UnitName::try_from(self.text("unit")?.as_str())
                .map_err(|_| self.broken("unit"))?,
            registered_at: self.time("registered_at")?,
            index: self.natural("entry_index")?,
            proposal: proposal.map_err(|_| self.broken("proposal"))?,
            revoked: match self.maybe_time("revoked_at")? {
                Some(at) => Some((at, self.natural("revoked_index")?)),
                None => None,
            },
        })
    }

    pub fn principal_name(&self, column: &'static str) -> Result<PrincipalName, StoreError> {
        PrincipalName::try_from(self.text(column)?.as_str()).map_err(|_| self.broken(column))
    }
}

#[async_trait]
impl PrincipalReads for SqliteStore {
    async fn principal(&self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError> {
        let sql = principals_where!("spki = $1");
        let row = self.one(query(sql).bind(spki.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of(TABLE, &row).principal()).transpose()
    }

    async fn principals(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        let sql = principals_where!("spki > $1 ORDER BY spki LIMIT $2");
        // Every hash comes after no bytes.
        let after = after.map_or(&[][..], |spki| spki.as_bytes().as_slice());
        let rows = self.many(query(sql).bind(after).bind(i64::from(limit))).await?;
        parsed(TABLE, &rows, Fields::principal)
    }

    async fn principals_of_entry(&self, index: u64) -> Result<Vec<PrincipalRow>, StoreError> {
        let sql = principals_where!("entry_index = $1 ORDER BY spki");
        let rows = self.many(query(sql).bind(stored(index))).await?;
        parsed(TABLE, &rows, Fields::principal)
    }
}

#[async_trait]
impl PrincipalWrites for SqlUnit {
    async fn principal(&mut self, spki: &Digest) -> Result<Option<PrincipalRow>, StoreError> {
        let sql = principals_where!("spki = $1");
        let row = query(sql).bind(spki.as_bytes().as_slice()).one(self.connection())?;
        row.map(|row| Fields::of(TABLE, &row).principal()).transpose()
    }

    async fn principals_named(
        &mut self,
        name: &PrincipalName,
    ) -> Result<Vec<PrincipalRow>, StoreError> {
        let sql = principals_where!("name = $1 ORDER BY spki");
        let rows = query(sql).bind(name.as_str()).all(self.connection())?;
        parsed(TABLE, &rows, Fields::principal)
    }

    async fn insert_principal(&mut self, row: &PrincipalRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO principals (spki, role, name, unit, registered_at, entry_index, \
                   proposal, revoked_at, revoked_index) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let statement = query(sql)
            .bind(row.spki.as_bytes().as_slice())
            .bind(row.role.as_str())
            .bind(row.name.as_str())
            .bind(row.unit.as_str())
            .bind(row.registered_at.get())
            .bind(stored(row.index))
            .bind(row.proposal.as_ref().map(|id| id.as_bytes().as_slice()))
            .bind(row.revoked.map(|(at, _)| at.get()))
            .bind(row.revoked.map(|(_, index)| stored(index)));
        self.run(statement).map(drop)
    }

    async fn revoke_principal(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
        index: u64,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE principals SET revoked_at = $2, revoked_index = $3 \
                   WHERE spki = $1 AND revoked_at IS NULL";
        let statement =
            query(sql).bind(spki.as_bytes().as_slice()).bind(at.get()).bind(stored(index));
        Ok(self.run(statement)? > 0)
    }
}
