//! Packs in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::{Row, Statement, query};
use super::parse::{Fields, stored};
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::store::{ActivationRow, PackRow, PackShelf, PackSignature, Packs, StoreError};

/// Everything of packs but their files, behind a condition.
macro_rules! packs_where {
    ($condition:literal) => {
        concat!(
            "SELECT hash, id, version, expires_at, author, author_key, author_signature, ",
            "proposed_at, proposed_index, approver, approver_key, approver_signature, ",
            "approved_at, approved_index FROM packs WHERE ",
            $condition
        )
    };
}

macro_rules! activations_where {
    ($condition:literal) => {
        concat!(
            "SELECT entry_index, hash, id, version, effective_at, from_folder ",
            "FROM pack_activations WHERE ",
            $condition
        )
    };
}

const PACK: &str = packs_where!("hash = $1");
const ACTIVATION_AT: &str = activations_where!(
    "from_folder = 0 AND effective_at <= $1 ORDER BY effective_at DESC, entry_index DESC LIMIT 1"
);

fn bytes(digest: &Digest) -> &[u8] {
    digest.as_bytes().as_slice()
}

fn pack(row: &Row) -> Result<PackRow, StoreError> {
    Fields::of("packs", row).pack()
}

fn activation(row: &Row) -> Result<ActivationRow, StoreError> {
    Fields::of("pack_activations", row).activation()
}

#[async_trait]
impl PackShelf for SqliteStore {
    async fn pack(&self, hash: &Digest) -> Result<Option<PackRow>, StoreError> {
        self.one(query(PACK).bind(bytes(hash))).await?.as_ref().map(pack).transpose()
    }

    async fn pack_files(&self, hash: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.one(query("SELECT files FROM packs WHERE hash = $1").bind(bytes(hash)));
        row.await?.map(|row| Fields::of("packs", &row).bytes("files")).transpose()
    }

    async fn packs(&self, after: Option<u64>, limit: u32) -> Result<Vec<PackRow>, StoreError> {
        let sql =
            packs_where!("$1 IS NULL OR proposed_index > $1 ORDER BY proposed_index LIMIT $2");
        let statement = query(sql).bind(after.map(stored)).bind(i64::from(limit));
        self.many(statement).await?.iter().map(pack).collect()
    }

    async fn activation_at(&self, now: UnixMillis) -> Result<Option<ActivationRow>, StoreError> {
        self.one(query(ACTIVATION_AT).bind(now.get())).await?.as_ref().map(activation).transpose()
    }

    async fn activation(&self, index: u64) -> Result<Option<ActivationRow>, StoreError> {
        let statement = query(activations_where!("entry_index = $1")).bind(stored(index));
        self.one(statement).await?.as_ref().map(activation).transpose()
    }

    async fn folder_activation(&self) -> Result<Option<ActivationRow>, StoreError> {
        let sql = activations_where!("from_folder = 1 ORDER BY entry_index DESC LIMIT 1");
        self.one(query(sql)).await?.as_ref().map(activation).transpose()
    }

    async fn activations_after(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<ActivationRow>, StoreError> {
        let sql = activations_where!(
            "from_folder = 0 AND effective_at > $1 ORDER BY effective_at, entry_index LIMIT $2"
        );
        let statement = query(sql).bind(now.get()).bind(i64::from(limit));
        self.many(statement).await?.iter().map(activation).collect()
    }
}

#[async_trait]
impl Packs for SqlUnit {
    async fn insert_pack(&mut self, row: &PackRow, files: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO packs (hash, id, version, files, expires_at, author, author_key, \
                   author_signature, proposed_at, proposed_index, approver, approver_key, \
                   approver_signature, approved_at, approved_index) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
        let PackRow { hash, id, version, expires_at, proposed, approved } = row;
        let statement = query(sql)
            .bind(bytes(hash))
            .bind(id)
            .bind(i64::from(*version))
            .bind(files)
            .bind(expires_at.get());
        let statement = signed(signed(statement, Some(proposed)), approved.as_ref());
        self.run(statement).map(drop)
    }

    async fn pack(&mut self, hash: &Digest) -> Result<Option<PackRow>, StoreError> {
        query(PACK).bind(bytes(hash)).one(self.connection())?.as_ref().map(pack).transpose()
    }

    async fn packs_of(&mut self, id: &str) -> Result<Vec<PackRow>, StoreError> {
        let statement = query(packs_where!("id = $1 ORDER BY proposed_index")).bind(id);
        let rows = statement.all(self.connection())?;
        rows.iter().map(pack).collect()
    }

    async fn packs_waiting(&mut self) -> Result<u64, StoreError> {
        let statement = query("SELECT COUNT(*) AS waiting FROM packs WHERE approved_index IS NULL");
        let row = statement.single(self.connection())?;
        Fields::of("packs", &row).natural("waiting")
    }

    async fn approve_pack(
        &mut self,
        hash: &Digest,
        approved: &PackSignature,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE packs SET approver = $2, approver_key = $3, approver_signature = $4, \
                   approved_at = $5, approved_index = $6 \
                   WHERE hash = $1 AND approved_index IS NULL";
        Ok(self.run(signed(query(sql).bind(bytes(hash)), Some(approved)))? > 0)
    }

    async fn delete_expired_packs(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let sql = "DELETE FROM packs WHERE approved_index IS NULL AND expires_at < $1";
        self.run(query(sql).bind(now.get()))
    }

    async fn insert_activation(&mut self, row: &ActivationRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO pack_activations \
                   (entry_index, hash, id, version, effective_at, from_folder) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let ActivationRow { index, hash, id, version, effective_at, from_folder } = row;
        let statement = query(sql)
            .bind(stored(*index))
            .bind(bytes(hash))
            .bind(id)
            .bind(i64::from(*version))
            .bind(effective_at.get())
            .bind(*from_folder);
        self.run(statement).map(drop)
    }

    async fn activation_at(
        &mut self,
        now: UnixMillis,
    ) -> Result<Option<ActivationRow>, StoreError> {
        query(ACTIVATION_AT)
            .bind(now.get())
            .one(self.connection())?
            .as_ref()
            .map(activation)
            .transpose()
    }

    async fn activations_of(&mut self, id: &str) -> Result<Vec<ActivationRow>, StoreError> {
        let statement = query(activations_where!("id = $1 ORDER BY entry_index")).bind(id);
        let rows = statement.all(self.connection())?;
        rows.iter().map(activation).collect()
    }
}

/// The statement with a signature's five values as its next arguments.
fn signed<'q>(statement: Statement<'q>, signature: Option<&'q PackSignature>) -> Statement<'q> {
    statement
        .bind(signature.map(|it| it.name.as_str()))
        .bind(signature.map(|it| it.key.as_bytes()))
        .bind(signature.map(|it| it.signature.as_slice()))
        .bind(signature.map(|it| it.at.get()))
        .bind(signature.map(|it| stored(it.index)))
}
