//! Everything that the rules see, found out in one place, inside the transaction of the decision.

use std::collections::BTreeMap;

use super::confirming::Confirming;
use super::error::GatewayError;
use super::sequencer::Slot;
use super::session::SESSION;
use super::verification_job::VerificationJob;
use crate::domain::decision::RuleId;
use crate::domain::id::CustomerId;
use crate::domain::modality::Captured;
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::supplied::Supplied;
use crate::domain::time::UnixMillis;
use crate::domain::turnover::{Direction, Party, Turnovers, Window};
use crate::policy::{BankFacts, Facts, History};
use crate::store::{CustomerRow, CustomerStatus, MovementsOf, RegisterRow, UnitOfWork};

const HOUR_MS: i64 = 3_600_000;

impl VerificationJob {
    /// The facts as of the decision's place in the ledger. What no rule of the pack sees is not looked
    /// up.
    pub(super) async fn facts(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
        confirming: &Confirming,
        registers: &[RegisterRow],
    ) -> Result<Facts, GatewayError> {
        let broken = |_| GatewayError::broken(SESSION);
        let customer = self.session.customer()?;
        Ok(Facts {
            operation: self.session.operation()?,
            amount: AmountMinor::try_from(self.session.amount_minor).map_err(broken)?,
            currency: self.currency()?,
            account_currency: Currency::try_from(self.session.account_currency.as_str())
                .map_err(broken)?,
            customer: self.standing,
            capture: self.seen.capture(),
            strength_db: self.seen.strength_db,
            liveness: self.seen.liveness(self.pack.bars()),
            attempts_in_transaction: self.attempts,
            holder_verification: self.session.holder_verification()?,
            device_level: self.signed_by.level(),
            modality: Captured::of(&self.session.modalities()?),
            iin_given: self.session.iin_given,
            confirmation: confirming.fact,
            unable: self.unable(unit, customer).await?,
            owner_known: self.owner_known(unit, slot).await?,
            turnovers: self.turnovers(unit, slot).await?,
            history: self.history(unit, customer, slot).await?,
            registers: self.registers(unit, registers, customer, slot).await?,
            case_open: self.case_open(unit, customer, slot).await?,
            shared_face: self.shared_face(unit, customer).await?,
            face_of_another: !self.lookalikes(unit, slot).await?.is_empty(),
            near_duplicate: self.seen.near_duplicate,
            footage_named: self.clip.is_some()
                || self.first(unit).await?.is_some_and(|it| it.is_named),
            bank: self.bank(slot)?,
            capped: self.capped(unit, customer, slot).await?,
        })
    }

    /// The currency of the cash.
    pub(super) fn currency(&self) -> Result<Currency, GatewayError> {
        Currency::try_from(self.session.currency.as_str())
            .map_err(|_| GatewayError::broken(SESSION))
    }

    /// Whether the account's token stands for somebody who is active.
    async fn owner_known(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<bool, GatewayError> {
        if !self.pack.sees("owner_known") {
            return Ok(false);
        }
        let owner = self.owner(unit, slot).await?;
        Ok(owner.is_some_and(|row| row.status == CustomerStatus::Active))
    }

    /// Whom the account's token stands for, where the bank bound it.
    pub(super) async fn owner(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Option<CustomerRow>, GatewayError> {
        let account = self.session.account_index()?;
        match unit.customer_by_token(&account, slot.now).await? {
            Some(owner) => Ok(unit.customer(&owner).await?),
            None => Ok(None),
        }
    }

    /// What moved before this transaction, as far as a rule sees it.
    async fn turnovers(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Turnovers, GatewayError> {
        let mut turnovers = Turnovers::default();
        if !self.pack.sees("turnover") {
            return Ok(turnovers);
        }
        let zone = &self.settings.zone;
        for window in Window::ALL {
            turnovers.set_end(window, zone.end(window, slot.now));
        }
        let currency = self.currency()?;
        for party in Party::ALL {
            let Some(of) = self.movements_of(party)? else { continue };
            for (direction, window) in Direction::ALL
                .into_iter()
                .flat_map(|direction| Window::ALL.map(|window| (direction, window)))
            {
                let words = [party.as_str(), direction.as_str(), window.as_str()].join(".");
                if self.pack.sees(&format!("turnover.{words}")) {
                    let since = zone.start(window, slot.now);
                    let turnover = unit.turnover(&of, currency, direction, since).await?;
                    turnovers.set(party, direction, window, turnover);
                }
            }
        }
        Ok(turnovers)
    }

    fn movements_of(&self, party: Party) -> Result<Option<MovementsOf>, GatewayError> {
        let customer = self.session.customer()?;
        let terminal = &self.terminal.id;
        Ok(match (party, &self.session.guest) {
            // Another face under the number is another guest, and splits nothing.
            (Party::Customer, Some(kept)) => {
                Some(MovementsOf::GuestsOfNumber(kept.number_index()?))
            }
            (Party::Customer, None) => customer.map(MovementsOf::Customer),
            (Party::Account, _) => Some(MovementsOf::Account(self.session.account_index()?)),
            (Party::Card, _) => self.session.card()?.map(MovementsOf::Card),
            (Party::Terminal, _) => Some(MovementsOf::Terminal(terminal.clone())),
            (Party::CustomerAtTerminal, _) => {
                customer.map(|id| MovementsOf::CustomerAtTerminal(id, terminal.clone()))
            }
        })
    }

    async fn history(
        &self,
        unit: &mut dyn UnitOfWork,
        customer: Option<CustomerId>,
        slot: &Slot,
    ) -> Result<History, GatewayError> {
        let mut history = History::default();
        let Some(customer) = customer else { return Ok(history) };
        let since = |window| self.settings.zone.start(window, slot.now);
        let day = since(Window::Hours24);
        if self.pack.sees("cards") {
            history.cards = unit.cards(&customer, slot.now).await?;
        }
        if self.pack.sees("others_on_account_h24") {
            let account = self.session.account_index()?;
            history.others_on_account_h24 =
                unit.others_on_account(&account, &customer, day).await?;
        }
        if let Some(card) = self.session.card()?.filter(|_| self.pack.sees("others_on_card_h24")) {
            history.others_on_card_h24 = unit.others_on_card(&card, &customer, day).await?;
        }
        if self.pack.sees("other_terminals_h1") {
            let hour = since(Window::Hour);
            history.other_terminals_h1 =
                unit.other_terminals(&self.terminal.id, &customer, hour).await?;
        }
        if self.pack.sees("failures_h24") {
            history.failures_h24 = unit.refusals(&customer, day).await?;
        }
        if self.pack.sees("active_hours") {
            let active = unit.customer(&customer).await?;
            let active = active.filter(|row| row.status == CustomerStatus::Active);
            let since = active.and_then(|row| row.activated_at);
            history.active_hours = since.map(|since| whole_hours(since, slot.now));
        }
        Ok(history)
    }

    /// Whether two people marked the person as unable to give a biometric. It counts on the exception
    /// path only: beside a capture it would tell an impostor who is marked.
    async fn unable(
        &self,
        unit: &mut dyn UnitOfWork,
        customer: Option<CustomerId>,
    ) -> Result<bool, GatewayError> {
        let is_asked = self.challenge_hash.is_none() && self.pack.sees("unable");
        match customer.filter(|_| is_asked) {
            Some(customer) => {
                Ok(unit.unable(&customer).await?.is_some_and(|row| row.approved_at.is_some()))
            }
            None => Ok(false),
        }
    }

    async fn shared_face(
        &self,
        unit: &mut dyn UnitOfWork,
        customer: Option<CustomerId>,
    ) -> Result<bool, GatewayError> {
        match customer.filter(|_| self.pack.sees("shared_face")) {
            Some(customer) => Ok(unit.has_open_duplicate(&customer).await?),
            None => Ok(false),
        }
    }

    fn bank(&self, slot: &Slot) -> Result<BankFacts, GatewayError> {
        let Supplied {
            business,
            other_banks_month_minor,
            account_data_as_of,
            risk_signs,
            social_payment,
        } = self.session.supplied()?;
        Ok(BankFacts {
            business,
            other_banks_month_minor,
            account_data_age_hours: account_data_as_of.map(|as_of| whole_hours(as_of, slot.now)),
            risk_signs,
            social_payment,
        })
    }

    async fn capped(
        &self,
        unit: &mut dyn UnitOfWork,
        customer: Option<CustomerId>,
        slot: &Slot,
    ) -> Result<BTreeMap<RuleId, UnixMillis>, GatewayError> {
        match customer.filter(|_| self.pack.sees("capped")) {
            Some(customer) => Ok(unit.caps(&customer, slot.now).await?.into_iter().collect()),
            None => Ok(BTreeMap::new()),
        }
    }
}

/// Never less than none, whatever the clocks say.
fn whole_hours(since: UnixMillis, now: UnixMillis) -> i64 {
    ((now.get() - since.get()) / HOUR_MS).max(0)
}
