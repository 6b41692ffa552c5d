//! Key-encryption keys, by name, and what is wrapped under which.

use tulga::domain::time::UnixMillis;
use tulga::store::{
    CustomerKeyRow, EvidenceKeyRow, EvidenceRow, KekRow, OwnKeyRow, Store, StoreError,
};

use super::fixtures::{add_customer, customer, customer_id, receipt, write};

/// The one that the fixtures' customers are wrapped under.
const OLD: &str = "0badcafe";
const NEW: &str = "00c0ffee";

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn kek(ordinal: u64, kek_id: &str) -> KekRow {
    KekRow {
        ordinal,
        kek_id: kek_id.into(),
        name: format!("kek-{ordinal}"),
        begun_at: at(7),
        ended_at: None,
        retired_at: None,
    }
}

fn own(purpose: &str, kek_id: &str) -> OwnKeyRow {
    OwnKeyRow { purpose: purpose.into(), kek_id: kek_id.into(), wrapped: vec![1, 2, 3] }
}

fn evidence(number: u8, kek_id: Option<&str>, is_kept: bool) -> EvidenceRow {
    EvidenceRow {
        index: u64::from(number),
        receipt: receipt(number),
        shelf: "2026-11-21".into(),
        media_type: "image/jpeg".into(),
        wrapped: is_kept.then(|| vec![number; 60]),
        kek_id: kek_id.map(str::to_owned),
        keep_until: at(1),
    }
}

pub async fn a_kek_is_current_ended_and_retired_once(store: &dyn Store) {
    assert_eq!(store.keks().await.unwrap(), []);
    write(store, async |unit| {
        unit.insert_kek(&kek(0, OLD)).await?;
        unit.insert_kek(&kek(1, NEW)).await
    })
    .await
    .unwrap();
    for twice in [kek(1, "other"), kek(2, OLD)] {
        let refused = write(store, async |unit| unit.insert_kek(&twice).await).await;
        assert!(matches!(refused, Err(StoreError::Exists)), "{refused:?}");
    }
    let done = write(store, async |unit| {
        let ended = [unit.end_kek(NEW, at(8)).await?, unit.end_kek(NEW, at(9)).await?];
        let retired = [unit.retire_kek(OLD, at(8)).await?, unit.retire_kek(OLD, at(9)).await?];
        Ok((ended, retired, unit.keks().await?))
    });
    let (ended, retired, inside) = done.await.unwrap();
    assert_eq!((ended, retired), ([true, false], [true, false]));
    let old = KekRow { retired_at: Some(at(8)), ..kek(0, OLD) };
    let new = KekRow { ended_at: Some(at(8)), ..kek(1, NEW) };
    assert_eq!(inside, [old, new]);
    assert_eq!(store.keks().await.unwrap(), inside);
    // Nothing is added under the one that is destroyed.
    let (row, key) = customer(1);
    let refused = write(store, async |unit| unit.insert_customer(&row, &key).await).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let picture = evidence(1, Some(OLD), true);
    let refused = write(store, async |unit| unit.insert_evidence(&picture).await).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let key = CustomerKeyRow { kek_id: NEW.into(), ..key };
    write(store, async |unit| unit.insert_customer(&row, &key).await).await.unwrap();
}

pub async fn what_is_wrapped_under_others_is_counted_found_and_wrapped_anew(store: &dyn Store) {
    for number in 1..=3 {
        add_customer(store, number).await;
    }
    write(store, async |unit| {
        unit.put_own_key(&own("index", OLD)).await?;
        unit.put_own_key(&own("system", NEW)).await?;
        for picture in
            [evidence(1, Some(OLD), true), evidence(2, None, true), evidence(3, None, false)]
        {
            unit.insert_evidence(&picture).await?;
        }
        unit.insert_evidence(&evidence(4, Some(NEW), true)).await
    })
    .await
    .unwrap();
    assert_eq!(store.wrapped_under_others(NEW).await.unwrap(), 3 + 2 + 1);
    // A picture that does not say counts for each.
    assert_eq!(store.wrapped_under_others(OLD).await.unwrap(), 2 + 1);
    let counted = write(store, async |unit| {
        Ok([unit.wrapped_under(OLD).await?, unit.wrapped_under(NEW).await?, {
            unit.wrapped_under_others(NEW).await?
        }])
    });
    assert_eq!(counted.await.unwrap(), [3 + 2 + 1, 2 + 1, 6]);

    let (customers, pictures) = write(store, async |unit| {
        let customers = unit.customer_keys_under_others(NEW, 2).await?;
        let pictures = unit.evidence_keys_under_others(NEW, 9).await?;
        for row in &customers {
            let wrapped = vec![9; 4];
            unit.rewrap_customer_key(&CustomerKeyRow {
                customer: row.customer,
                kek_id: NEW.into(),
                wrapped,
            })
            .await?;
        }
        for row in &pictures {
            let row = EvidenceKeyRow { kek_id: Some(NEW.into()), wrapped: vec![8], ..row.clone() };
            unit.rewrap_evidence_key(&row).await?;
        }
        // Who has no keys any more gets none, nor does a destroyed picture.
        let nobody =
            CustomerKeyRow { customer: customer_id(9), kek_id: NEW.into(), wrapped: vec![9] };
        unit.rewrap_customer_key(&nobody).await?;
        let gone = EvidenceKeyRow {
            index: 3,
            receipt: receipt(3),
            kek_id: Some(NEW.into()),
            wrapped: vec![8],
        };
        unit.rewrap_evidence_key(&gone).await?;
        unit.put_own_key(&own("index", NEW)).await?;
        Ok((customers, pictures))
    })
    .await
    .unwrap();
    assert_eq!((customers.len(), pictures.len()), (2, 2));
    assert_eq!(store.wrapped_under_others(NEW).await.unwrap(), 1);
    let row = store.customer_key(&customers[0].customer).await.unwrap().unwrap();
    assert_eq!((row.kek_id.as_str(), row.wrapped), (NEW, vec![9; 4]));
    assert!(store.customer_key(&customer_id(9)).await.unwrap().is_none());
    let picture = store.evidence(2).await.unwrap().unwrap();
    assert_eq!((picture.kek_id.as_deref(), picture.wrapped), (Some(NEW), Some(vec![8])));
    assert_eq!(store.evidence(3).await.unwrap().unwrap().wrapped, None);
    assert_eq!(store.own_keys().await.unwrap(), [own("index", NEW), own("system", NEW)]);
}
