//! Verifications under way, so that a repeated call joins the first one and shares its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::crypto::Digest;
use crate::domain::transaction::DecisionKey;

/// Which attempts are being decided, and what was asked in each.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<BTreeMap<DecisionKey, (Digest, watch::Receiver<()>)>>);

/// What a call finds.
pub(super) enum Found {
    /// Nobody decides about this attempt: the caller does, while it holds the turn.
    Nobody(Turn),
    /// Somebody decides, about the same content.
    Same(Ending),
    /// Somebody decides, about other content.
    Other,
}

/// The right to decide about an attempt; given back when dropped.
pub(super) struct Turn {
    under_way: Arc<UnderWay>,
    key: DecisionKey,
    /// Closes when dropped, which is what [`Ending`] waits for.
    _ends: watch::Sender<()>,
}

/// The end of somebody's turn.
pub(super) struct Ending(watch::Receiver<()>);

impl UnderWay {
    /// Takes the turn for an attempt, or finds who has it.
    pub fn enter(self: &Arc<Self>, key: &DecisionKey, request_hash: Digest) -> Found {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match turns.get(key) {
            Some((asked, ends)) if *asked == request_hash => Found::Same(Ending(ends.clone())),
            Some(_) => Found::Other,
            None => {
                let (sender, ends) = watch::channel(());
                turns.insert(key.clone(), (request_hash, ends));
                Found::Nobody(Turn { under_way: Arc::clone(self), key: key.clone(), _ends: sender })
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.remove(&self.key);
    }
}

impl Ending {
    /// Waits until the turn is given back.
    pub async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{Attempt, HostTransactionId, TerminalId};
    use crate::domain::time::BusinessDate;

    #[tokio::test]
    async fn a_turn_is_one_callers_until_it_is_dropped() {
        let key = DecisionKey {
            terminal: TerminalId::try_from("ATM-1").unwrap(),
            business_date: BusinessDate::try_from("2026-11-21").unwrap(),
            host_id: HostTransactionId::try_from("T1").unwrap(),
            attempt: Attempt::try_from(1).unwrap(),
        };
        let (asked, other) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let under_way = Arc::new(UnderWay::default());
        let Found::Nobody(turn) = under_way.enter(&key, asked) else { panic!("taken") };
        assert!(matches!(under_way.enter(&key, other), Found::Other));
        let Found::Same(ending) = under_way.enter(&key, asked) else { panic!("free") };
        let waiting = tokio::spawn(ending.wait());
        drop(turn);
        waiting.await.unwrap();
        assert!(matches!(under_way.enter(&key, other), Found::Nobody(_)));
    }
}
