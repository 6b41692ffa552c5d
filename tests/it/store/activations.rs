//! Activations that wait for a second person.

use tulga::domain::id::PrincipalName;
use tulga::domain::reference::SecondPersonReason;
use tulga::domain::time::UnixMillis;
use tulga::store::{ActivationProposalRow, Store, StoreError};

use super::fixtures::{add_customer, customer_id, digest, write};

fn proposal(of: u8, number: u8, reason: SecondPersonReason) -> ActivationProposalRow {
    ActivationProposalRow {
        customer: customer_id(of),
        proposed_by: PrincipalName::try_from(format!("desk-{number}").as_str()).unwrap(),
        proposed_key: digest(number),
        reason,
        proposed_at: UnixMillis::new(i64::from(number)),
        index: u64::from(number) + 100,
    }
}

pub async fn a_proposed_activation_is_replaced_taken_away_and_goes_with_the_customer(
    store: &dyn Store,
) {
    for number in 1..=2 {
        add_customer(store, number).await;
    }
    let (one, two) = (customer_id(1), customer_id(2));
    assert_eq!(store.activation_proposal(&one).await.unwrap(), None);
    // Each reason is kept as it is; a later proposal takes the place of an earlier one.
    for (number, reason) in (3..).zip(SecondPersonReason::ALL) {
        let row = proposal(1, number, reason);
        write(store, async |unit| {
            unit.put_activation_proposal(&row).await?;
            assert_eq!(unit.activation_proposal(&one).await?, Some(row.clone()));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(store.activation_proposal(&one).await.unwrap(), Some(row));
    }
    assert_eq!(store.activation_proposal(&two).await.unwrap(), None);
    for expected in [true, false] {
        let gone = write(store, async |unit| unit.delete_activation_proposal(&one).await).await;
        assert_eq!(gone.unwrap(), expected);
    }
    assert_eq!(store.activation_proposal(&one).await.unwrap(), None);
    let row = proposal(2, 9, SecondPersonReason::TwoPeople);
    write(store, async |unit| unit.put_activation_proposal(&row).await).await.unwrap();
    let at = UnixMillis::new(9);
    write(store, async |unit| unit.erase_customer(&two, at).await).await.unwrap();
    assert_eq!(store.activation_proposal(&two).await.unwrap(), None);
    let nobody = proposal(7, 1, SecondPersonReason::NoReference);
    let refused = write(store, async |unit| unit.put_activation_proposal(&nobody).await).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent { .. })), "{refused:?}");
}
