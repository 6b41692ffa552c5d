//! Prints of faces in SQL.

use async_trait::async_trait;

use super::SqliteStore;
use super::engine::query;
use super::parse::Fields;
use super::read::parsed;
use super::write::SqlUnit;
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::time::UnixMillis;
use crate::store::{FacePrintRow, PrintReads, Prints, StoreError};

const TABLE: &str = "face_prints";

impl Fields<'_> {
    fn face_print(&self) -> Result<FacePrintRow, StoreError> {
        Ok(FacePrintRow {
            id: CaptureId::try_from(self.bytes("id")?.as_slice()).map_err(|_| self.broken("id"))?,
            customer: self.customer("customer")?,
            sealed: self.bytes("sealed")?,
            at: self.time("at")?,
            until: self.time("until")?,
        })
    }
}

#[async_trait]
impl PrintReads for SqliteStore {
    async fn face_prints(
        &self,
        customer: &CustomerId,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<FacePrintRow>, StoreError> {
        let sql = "SELECT id, customer, sealed, at, until FROM face_prints \
                   WHERE customer = $1 AND until > $2 ORDER BY at DESC, id LIMIT $3";
        let statement =
            query(sql).bind(customer.as_bytes().as_slice()).bind(now.get()).bind(i64::from(limit));
        parsed(TABLE, &self.many(statement).await?, Fields::face_print)
    }
}

#[async_trait]
impl Prints for SqlUnit {
    async fn insert_face_print(&mut self, row: &FacePrintRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO face_prints (id, customer, sealed, at, until) \
                   VALUES ($1, $2, $3, $4, $5)";
        let statement = query(sql)
            .bind(row.id.as_bytes().as_slice())
            .bind(row.customer.as_bytes().as_slice())
            .bind(row.sealed.as_slice())
            .bind(row.at.get())
            .bind(row.until.get());
        self.run(statement).map(drop)
    }

    async fn forget_face_prints(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        self.run(query("DELETE FROM face_prints WHERE until <= $1").bind(now.get()))
    }
}
