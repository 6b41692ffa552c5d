//! Keys that captures are sealed to, and challenges of captures at enrolment, in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::Fields;
use super::read::parsed;
use super::write::SqlUnit;
use crate::crypto::Digest;
use crate::domain::id::CaptureKeyId;
use crate::domain::modality::Modality;
use crate::domain::time::UnixMillis;
use crate::store::{CaptureKeyRow, EnrolmentChallengeRow, SealingReads, SealingWrites, StoreError};

const KEYS: &str = "capture_keys";
const CHALLENGES: &str = "enrolment_challenges";
const SELECT_KEYS: &str =
    "SELECT id, public_key, sealed, made_at, counts_until FROM capture_keys ORDER BY made_at, id";
const SELECT_KEY: &str =
    "SELECT id, public_key, sealed, made_at, counts_until FROM capture_keys WHERE id = $1";
const SELECT_CHALLENGE: &str = "SELECT hash, customer, modality, terminal, opened_by, answer, expires_at \
     FROM enrolment_challenges WHERE hash = $1";

impl Fields<'_> {
    fn capture_key(&self) -> Result<CaptureKeyRow, StoreError> {
        let id = CaptureKeyId::try_from(self.text("id")?.as_str());
        let public_key = <[u8; 32]>::try_from(self.bytes("public_key")?);
        Ok(CaptureKeyRow {
            id: id.map_err(|_| self.broken("id"))?,
            public_key: public_key.map_err(|_| self.broken("public_key"))?,
            sealed: self.bytes("sealed")?,
            made_at: self.time("made_at")?,
            counts_until: self.maybe_time("counts_until")?,
        })
    }

    fn enrolment_challenge(&self) -> Result<EnrolmentChallengeRow, StoreError> {
        let modality = Modality::from_characteristic(&self.text("modality")?);
        Ok(EnrolmentChallengeRow {
            hash: self.digest("hash")?,
            customer: self.customer("customer")?,
            modality: modality.ok_or_else(|| self.broken("modality"))?,
            terminal: self.terminal("terminal")?,
            opened_by: self.digest("opened_by")?,
            answer: self.digest("answer")?,
            expires_at: self.time("expires_at")?,
        })
    }
}

#[async_trait]
impl SealingReads for SqliteStore {
    async fn capture_keys(&self) -> Result<Vec<CaptureKeyRow>, StoreError> {
        parsed(KEYS, &self.many(query(SELECT_KEYS)).await?, Fields::capture_key)
    }

    async fn capture_key(&self, id: &CaptureKeyId) -> Result<Option<CaptureKeyRow>, StoreError> {
        let row = self.one(query(SELECT_KEY).bind(id.as_str())).await?;
        row.map(|row| Fields::of(KEYS, &row).capture_key()).transpose()
    }

    async fn enrolment_challenge(
        &self,
        hash: &Digest,
    ) -> Result<Option<EnrolmentChallengeRow>, StoreError> {
        let row = self.one(query(SELECT_CHALLENGE).bind(hash.as_bytes().as_slice())).await?;
        row.map(|row| Fields::of(CHALLENGES, &row).enrolment_challenge()).transpose()
    }
}

#[async_trait]
impl SealingWrites for SqlUnit {
    async fn insert_capture_key(&mut self, row: &CaptureKeyRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO capture_keys (id, public_key, sealed, made_at, counts_until) \
                   VALUES ($1, $2, $3, $4, $5)";
        let statement = query(sql)
            .bind(row.id.as_str())
            .bind(row.public_key.as_slice())
            .bind(row.sealed.as_slice())
            .bind(row.made_at.get())
            .bind(row.counts_until.map(UnixMillis::get));
        self.run(statement).map(drop)
    }

    async fn end_capture_keys(&mut self, until: UnixMillis) -> Result<(), StoreError> {
        let sql = "UPDATE capture_keys SET counts_until = $1 \
                   WHERE counts_until IS NULL OR counts_until > $1";
        self.run(query(sql).bind(until.get())).map(drop)
    }

    async fn forget_capture_keys(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        let sql = "DELETE FROM capture_keys WHERE counts_until <= $1";
        let forgotten = self.run(query(sql).bind(now.get()))?;
        if forgotten > 0 {
            self.destroys();
        }
        Ok(forgotten)
    }

    async fn insert_enrolment_challenge(
        &mut self,
        row: &EnrolmentChallengeRow,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO enrolment_challenges \
                   (hash, customer, modality, terminal, opened_by, answer, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let statement = query(sql)
            .bind(row.hash.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.modality.characteristic())
            .bind(row.terminal.as_str())
            .bind(row.opened_by.as_bytes().as_slice())
            .bind(row.answer.as_bytes().as_slice())
            .bind(row.expires_at.get());
        self.run(statement).map(drop)
    }

    async fn drop_enrolment_challenges(
        &mut self,
        like: &EnrolmentChallengeRow,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM enrolment_challenges \
                   WHERE customer = $1 AND modality = $2 AND opened_by = $3";
        let statement = query(sql)
            .bind(like.customer.as_bytes())
            .bind(like.modality.characteristic())
            .bind(like.opened_by.as_bytes());
        self.run(statement)
    }

    async fn take_enrolment_challenge(&mut self, hash: &Digest) -> Result<bool, StoreError> {
        let sql = "DELETE FROM enrolment_challenges WHERE hash = $1";
        Ok(self.run(query(sql).bind(hash.as_bytes().as_slice()))? > 0)
    }

    async fn forget_enrolment_challenges(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM enrolment_challenges WHERE expires_at < $1").bind(now.get()))
    }
}
