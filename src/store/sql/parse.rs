//! Rows become values, or [`StoreError::Inconsistent`].

use super::engine::Row;
use crate::crypto::{Digest, PublicKey};
use crate::domain::case::{CaseKind, CaseStatus, Resolution};
use crate::domain::decision::RuleId;
use crate::domain::id::{
    Attempt, CaptureId, CaseId, ConfirmationId, CustomerId, HostTransactionId, PrincipalName,
    ReceiptId, TerminalId,
};
use crate::domain::modality::Modality;
use crate::domain::money::Currency;
use crate::domain::register::{Register, SourceCode};
use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::transaction::{CashOutcome, DecisionKey, Operation, TokenKind};
use crate::store::{
    ActivationRow, AnswerKind, AppKeyRow, CaptureRow, CaseEvidenceRow, CaseRow, ChallengeRow,
    ChallengeState, CheckpointRow, ConfirmationAnswer, ConfirmationRow, CustomerKeyRow,
    CustomerRow, CustomerStatus, DecisionRow, DuplicateRow, EntryRow, HeadRow, MovedRow,
    OutcomeRow, PackRow, PackSignature, ProposalRow, RedemptionRow, RegisterRow, RegisterValueRow,
    StoreError, TellerProposal, TerminalKeyRow, TimestampRow, TokenRow, UnableRow, WitnessedRow,
};

/// One row of a table, read column by column.
pub(super) struct Fields<'a> {
    table: &'static str,
    row: &'a Row,
}

impl<'a> Fields<'a> {
    pub fn of(table: &'static str, row: &'a Row) -> Self {
        Self { table, row }
    }

    pub fn broken(&self, column: &'static str) -> StoreError {
        // The first column is the key in every statement here; a key names no person.
        let text = self.row.at::<String>(0);
        let number = || self.row.at::<i64>(0).map(|number| number.to_string());
        let bytes = || self.row.at::<Vec<u8>>(0).map(|bytes| hex(&bytes));
        let key = text.or_else(number).or_else(bytes).unwrap_or_default();
        StoreError::Inconsistent { table: self.table, column, row: key }
    }

    pub fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn maybe_bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn maybe_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn natural(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.broken(column))
    }

    pub fn time(&self, column: &'static str) -> Result<UnixMillis, StoreError> {
        self.integer(column).map(UnixMillis::new)
    }

    pub fn maybe_time(&self, column: &'static str) -> Result<Option<UnixMillis>, StoreError> {
        let millis: Option<i64> = self.row.get(column).ok_or_else(|| self.broken(column))?;
        Ok(millis.map(UnixMillis::new))
    }

    pub fn digest(&self, column: &'static str) -> Result<Digest, StoreError> {
        Digest::try_from(self.bytes(column)?.as_slice()).map_err(|_| self.broken(column))
    }

    pub fn customer(&self, column: &'static str) -> Result<CustomerId, StoreError> {
        CustomerId::try_from(self.bytes(column)?.as_slice()).map_err(|_| self.broken(column))
    }

    pub fn terminal(&self, column: &'static str) -> Result<TerminalId, StoreError> {
        TerminalId::try_from(self.text(column)?.as_str()).map_err(|_| self.broken(column))
    }

    pub fn receipt(&self, column: &'static str) -> Result<ReceiptId, StoreError> {
        ReceiptId::try_from(self.bytes(column)?.as_slice()).map_err(|_| self.broken(column))
    }

    pub fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        self.row.get(column).ok_or_else(|| self.broken(column))
    }

    pub fn currency(&self, column: &'static str) -> Result<Currency, StoreError> {
        Currency::try_from(self.text(column)?.as_str()).map_err(|_| self.broken(column))
    }

    pub fn word<T: Copy>(
        &self,
        column: &'static str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<T, StoreError> {
        let text = self.text(column)?;
        all.iter().copied().find(|value| word(*value) == text).ok_or_else(|| self.broken(column))
    }

    pub fn terminal_key(&self) -> Result<TerminalKeyRow, StoreError> {
        Ok(TerminalKeyRow {
            spki: self.digest("spki")?,
            terminal: self.terminal("terminal")?,
            registered_at: self.time("registered_at")?,
            revoked_at: self.maybe_time("revoked_at")?,
        })
    }

    pub fn customer_row(&self) -> Result<CustomerRow, StoreError> {
        let index = self.maybe_bytes("iin_index")?;
        let index = index.map(|bytes| Digest::try_from(bytes.as_slice())).transpose();
        Ok(CustomerRow {
            id: self.customer("id")?,
            status: self.word("status", &CustomerStatus::ALL, CustomerStatus::as_str)?,
            iin_index: index.map_err(|_| self.broken("iin_index"))?,
            sealed_record: self.bytes("sealed_record")?,
            created_at: self.time("created_at")?,
            updated_at: self.time("updated_at")?,
            activated_at: self.maybe_time("activated_at")?,
        })
    }

    pub fn moved(&self) -> Result<MovedRow, StoreError> {
        let index = self.maybe_integer("moved_index")?;
        Ok(MovedRow {
            approved_minor: self.integer("approved_minor")?,
            moved_minor: self.integer("moved_minor")?,
            currency: self.currency("currency")?,
            index: index.map(u64::try_from).transpose().map_err(|_| self.broken("moved_index"))?,
        })
    }

    pub fn cap(&self) -> Result<(RuleId, UnixMillis), StoreError> {
        let rule = RuleId::try_from(self.text("rule")?.as_str());
        Ok((rule.map_err(|_| self.broken("rule"))?, self.time("until")?))
    }

    pub fn register(&self) -> Result<Register, StoreError> {
        self.word("register", &Register::ALL, Register::as_str)
    }

    pub fn register_version(&self) -> Result<RegisterRow, StoreError> {
        Ok(RegisterRow {
            register: self.register()?,
            version: self.natural("version")?,
            hash: self.digest("hash")?,
            count: self.natural("row_count")?,
            imported_at: self.time("imported_at")?,
            index: self.natural("entry_index")?,
        })
    }

    pub fn register_value(&self) -> Result<RegisterValueRow, StoreError> {
        let note = self.maybe_text("note")?;
        let note = note.as_deref().map(SourceCode::try_from).transpose();
        Ok(RegisterValueRow {
            value: self.digest("value_index")?,
            note: note.map_err(|_| self.broken("note"))?,
            valid_until: self.maybe_time("valid_until")?,
        })
    }

    fn case_id(&self, column: &'static str) -> Result<CaseId, StoreError> {
        CaseId::try_from(self.bytes(column)?.as_slice()).map_err(|_| self.broken(column))
    }

    fn small(&self, column: &'static str) -> Result<u32, StoreError> {
        u32::try_from(self.integer(column)?).map_err(|_| self.broken(column))
    }

    pub fn case(&self) -> Result<CaseRow, StoreError> {
        let kind = CaseKind::try_from(self.text("kind")?.as_str());
        Ok(CaseRow {
            id: self.case_id("id")?,
            customer: self.customer("customer")?,
            kind: kind.map_err(|_| self.broken("kind"))?,
            status: self.word("status", &CaseStatus::ALL, CaseStatus::as_str)?,
            opened_at: self.time("opened_at")?,
            held_until: self.maybe_time("held_until")?,
            beyond_calendar: self.flag("beyond_calendar")?,
            weight: self.small("weight")?,
            decisions: self.small("decisions")?,
            score: self.small("score")?,
            proposal: self.proposal()?,
            closed_at: self.maybe_time("closed_at")?,
        })
    }

    fn proposal(&self) -> Result<Option<ProposalRow>, StoreError> {
        if self.maybe_text("proposal")?.is_none() {
            return Ok(None);
        }
        Ok(Some(ProposalRow {
            resolution: self.word("proposal", &Resolution::ALL, Resolution::as_str)?,
            by: self.text("proposed_by")?,
            key: self.digest("proposed_key")?,
            at: self.time("proposed_at")?,
        }))
    }

    pub fn case_evidence(&self) -> Result<CaseEvidenceRow, StoreError> {
        let rules = self.text("rules")?;
        let rules = rules.split_whitespace().map(RuleId::try_from).collect::<Result<_, _>>();
        let operation = Operation::from_word(&self.text("operation")?);
        Ok(CaseEvidenceRow {
            case: self.case_id("case_id")?,
            index: self.natural("entry_index")?,
            at: self.time("at")?,
            outcome: self.text("outcome")?,
            rules: rules.map_err(|_| self.broken("rules"))?,
            operation: operation.ok_or_else(|| self.broken("operation"))?,
            amount_minor: self.integer("amount_minor")?,
            currency: self.currency("currency")?,
        })
    }

    pub fn customer_key(&self) -> Result<CustomerKeyRow, StoreError> {
        Ok(CustomerKeyRow {
            customer: self.customer("customer")?,
            kek_id: self.text("kek_id")?,
            wrapped: self.bytes("wrapped")?,
        })
    }

    pub fn token(&self) -> Result<TokenRow, StoreError> {
        const KINDS: [TokenKind; 3] = [TokenKind::Card, TokenKind::Account, TokenKind::PhoneCode];
        Ok(TokenRow {
            index: self.digest("token_index")?,
            customer: self.customer("customer")?,
            kind: self.word("kind", &KINDS, TokenKind::as_str)?,
            bound_at: self.time("bound_at")?,
            expires_at: self.maybe_time("expires_at")?,
        })
    }

    pub fn capture(&self) -> Result<CaptureRow, StoreError> {
        let id = CaptureId::try_from(self.bytes("id")?.as_slice());
        Ok(CaptureRow {
            id: id.map_err(|_| self.broken("id"))?,
            customer: self.customer("customer")?,
            modality: Modality::from_characteristic(&self.text("modality")?)
                .ok_or_else(|| self.broken("modality"))?,
            sealed: self.bytes("sealed")?,
            created_at: self.time("created_at")?,
        })
    }

    pub fn duplicate(&self) -> Result<DuplicateRow, StoreError> {
        Ok(DuplicateRow {
            customer: self.customer("customer")?,
            other: self.customer("other")?,
            strength_db: self.integer("strength_db")?,
            found_at: self.time("found_at")?,
            resolution: self.maybe_text("resolution")?,
        })
    }

    pub fn challenge(&self) -> Result<ChallengeRow, StoreError> {
        Ok(ChallengeRow {
            hash: self.digest("hash")?,
            terminal: self.terminal("terminal")?,
            sealed_session: self.bytes("sealed_session")?,
            issued_at: self.time("issued_at")?,
            expires_at: self.time("expires_at")?,
            state: self.word("state", &ChallengeState::ALL, ChallengeState::as_str)?,
        })
    }

    pub fn counter(&self) -> Result<u32, StoreError> {
        u32::try_from(self.integer("value")?).map_err(|_| self.broken("value"))
    }

    pub fn decision(&self, key: &DecisionKey) -> Result<DecisionRow, StoreError> {
        Ok(DecisionRow {
            key: key.clone(),
            request_hash: self.digest("request_hash")?,
            index: self.natural("entry_index")?,
            approves: self.flag("approves")?,
            sealed_answer: self.bytes("sealed_answer")?,
        })
    }

    pub fn confirmation(&self) -> Result<ConfirmationRow, StoreError> {
        let id = ConfirmationId::try_from(self.bytes("id")?.as_slice());
        let business_date = BusinessDate::try_from(self.text("business_date")?.as_str());
        let host_id = HostTransactionId::try_from(self.text("host_id")?.as_str());
        let settled_by = self.maybe_integer("settled_by")?;
        Ok(ConfirmationRow {
            id: id.map_err(|_| self.broken("id"))?,
            customer: self.customer("customer")?,
            key: DecisionKey {
                terminal: self.terminal("terminal")?,
                business_date: business_date.map_err(|_| self.broken("business_date"))?,
                host_id: host_id.map_err(|_| self.broken("host_id"))?,
                attempt: self.attempt("attempt", self.integer("attempt")?)?,
            },
            receipt: self.receipt("receipt")?,
            index: self.natural("entry_index")?,
            sealed: self.bytes("sealed")?,
            created_at: self.time("created_at")?,
            expires_at: self.time("expires_at")?,
            proposal: self.teller_proposal()?,
            answer: self.confirmation_answer()?,
            settled_by: settled_by.map(|number| self.attempt("settled_by", number)).transpose()?,
        })
    }

    fn teller_proposal(&self) -> Result<Option<TellerProposal>, StoreError> {
        if self.maybe_text("proposed_by")?.is_none() {
            return Ok(None);
        }
        Ok(Some(TellerProposal {
            by: self.name("proposed_by")?,
            key: self.digest("proposed_key")?,
            sealed: self.bytes("proposal_sealed")?,
            at: self.time("proposed_at")?,
            index: self.natural("proposal_index")?,
        }))
    }

    fn confirmation_answer(&self) -> Result<Option<ConfirmationAnswer>, StoreError> {
        if self.maybe_text("answer")?.is_none() {
            return Ok(None);
        }
        let app_key = self.maybe_bytes("app_key")?;
        let app_key = app_key.as_deref().map(Digest::try_from).transpose();
        Ok(Some(ConfirmationAnswer {
            kind: self.word("answer", &AnswerKind::ALL, AnswerKind::as_str)?,
            at: self.time("answered_at")?,
            counts_until: self.time("counts_until")?,
            receipt: self.receipt("answer_receipt")?,
            index: self.natural("answer_index")?,
            app_key: app_key.map_err(|_| self.broken("app_key"))?,
            signature: self.bytes("signature")?,
        }))
    }

    pub fn app_key(&self) -> Result<AppKeyRow, StoreError> {
        Ok(AppKeyRow {
            fingerprint: self.digest("fingerprint")?,
            customer: self.customer("customer")?,
            spki: self.bytes("spki")?,
            bound_at: self.time("bound_at")?,
        })
    }

    pub fn unable(&self) -> Result<UnableRow, StoreError> {
        let proposed_by = PrincipalName::try_from(self.text("proposed_by")?.as_str());
        Ok(UnableRow {
            customer: self.customer("customer")?,
            proposed_by: proposed_by.map_err(|_| self.broken("proposed_by"))?,
            proposed_key: self.digest("proposed_key")?,
            sealed: self.bytes("sealed")?,
            proposed_at: self.time("proposed_at")?,
            approved_at: self.maybe_time("approved_at")?,
        })
    }

    fn attempt(&self, column: &'static str, number: i64) -> Result<Attempt, StoreError> {
        let number = u32::try_from(number).ok().map(Attempt::try_from);
        number.and_then(Result::ok).ok_or_else(|| self.broken(column))
    }

    pub fn outcome(&self, key: &DecisionKey) -> Result<OutcomeRow, StoreError> {
        Ok(OutcomeRow {
            key: key.clone(),
            outcome: self.word("outcome", &CashOutcome::ALL, CashOutcome::as_str)?,
            dispensed_minor: self.integer("dispensed_minor")?,
            currency: self.currency("currency")?,
            index: self.natural("entry_index")?,
        })
    }

    pub fn redemption(&self) -> Result<RedemptionRow, StoreError> {
        Ok(RedemptionRow {
            receipt: self.receipt("receipt")?,
            redeemed_at: self.time("redeemed_at")?,
            index: self.natural("entry_index")?,
        })
    }

    pub fn head(&self) -> Result<HeadRow, StoreError> {
        Ok(HeadRow {
            size: self.natural("size")?,
            root: self.digest("root")?,
            epoch: self.natural("epoch")?,
        })
    }

    pub fn entry(&self) -> Result<EntryRow, StoreError> {
        let terminal = self.maybe_text("terminal")?;
        let terminal = terminal.as_deref().map(TerminalId::try_from).transpose();
        Ok(EntryRow {
            index: self.natural("entry_index")?,
            receipt: self.receipt("receipt")?,
            kind: self.text("kind")?,
            terminal: terminal.map_err(|_| self.broken("terminal"))?,
            time: self.time("time")?,
            jws: self.text("jws")?,
            leaf: self.digest("leaf")?,
            sealed_audit: self.maybe_bytes("sealed_audit")?,
        })
    }

    pub fn witnessed(&self) -> Result<WitnessedRow, StoreError> {
        Ok(WitnessedRow { size: self.natural("size")?, time: self.time("time")? })
    }

    pub fn timestamp(&self) -> Result<TimestampRow, StoreError> {
        Ok(TimestampRow {
            size: self.natural("size")?,
            answer: self.bytes("answer")?,
            time: self.time("time")?,
        })
    }

    pub fn checkpoint(&self) -> Result<CheckpointRow, StoreError> {
        Ok(CheckpointRow {
            size: self.natural("size")?,
            text: self.text("text")?,
            time: self.time("time")?,
        })
    }
}

impl Fields<'_> {
    pub fn pack(&self) -> Result<PackRow, StoreError> {
        let author = PackSignature {
            name: self.name("author")?,
            key: self.key("author_key")?,
            signature: self.bytes("author_signature")?,
            at: self.time("proposed_at")?,
            index: self.natural("proposed_index")?,
        };
        let approved = match self.maybe_time("approved_at")? {
            None => None,
            Some(at) => Some(PackSignature {
                name: self.name("approver")?,
                key: self.key("approver_key")?,
                signature: self.bytes("approver_signature")?,
                at,
                index: self.natural("approved_index")?,
            }),
        };
        Ok(PackRow {
            hash: self.digest("hash")?,
            id: self.text("id")?,
            version: self.version()?,
            expires_at: self.time("expires_at")?,
            proposed: author,
            approved,
        })
    }

    pub fn activation(&self) -> Result<ActivationRow, StoreError> {
        Ok(ActivationRow {
            index: self.natural("entry_index")?,
            hash: self.digest("hash")?,
            id: self.text("id")?,
            version: self.version()?,
            effective_at: self.time("effective_at")?,
            from_folder: self.flag("from_folder")?,
        })
    }

    fn version(&self) -> Result<u32, StoreError> {
        u32::try_from(self.integer("version")?).map_err(|_| self.broken("version"))
    }

    fn name(&self, column: &'static str) -> Result<PrincipalName, StoreError> {
        PrincipalName::try_from(self.text(column)?.as_str()).map_err(|_| self.broken(column))
    }

    fn key(&self, column: &'static str) -> Result<PublicKey, StoreError> {
        let bytes: [u8; 32] = self.bytes(column)?.try_into().map_err(|_| self.broken(column))?;
        Ok(PublicKey::new(bytes))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A size or an index as SQL keeps it; beyond 2^63 there is no ledger.
pub(super) fn stored(natural: u64) -> i64 {
    i64::try_from(natural).unwrap_or(i64::MAX)
}
