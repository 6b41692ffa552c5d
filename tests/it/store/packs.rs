//! Packs of rules: proposals, approvals, activations.

use tulga::crypto::PublicKey;
use tulga::domain::id::PrincipalName;
use tulga::domain::time::UnixMillis;
use tulga::store::{ActivationRow, PackRow, PackSignature, Store, StoreError};

use super::fixtures::{digest, write};

fn signature(number: u8) -> PackSignature {
    PackSignature {
        name: PrincipalName::try_from(format!("person-{number}").as_str()).unwrap(),
        key: PublicKey::new([number; 32]),
        signature: vec![number; 64],
        at: UnixMillis::new(i64::from(number)),
        index: u64::from(number),
    }
}

fn pack(number: u8, id: &str, expires_at: i64) -> PackRow {
    PackRow {
        hash: digest(number),
        id: id.into(),
        version: u32::from(number),
        expires_at: UnixMillis::new(expires_at),
        proposed: signature(number),
        approved: None,
    }
}

fn activation(index: u64, number: u8, effective_at: i64, from_folder: bool) -> ActivationRow {
    ActivationRow {
        index,
        hash: digest(number),
        id: "kz".into(),
        version: u32::from(number),
        effective_at: UnixMillis::new(effective_at),
        from_folder,
    }
}

pub async fn a_pack_is_proposed_once_and_approved_once(store: &dyn Store) {
    let rows = [pack(3, "ru", 100), pack(1, "kz", 100), pack(2, "kz", 100)];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_pack(row, &[row.proposed.signature[0]; 7]).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_pack(&rows[0], b"").await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    assert_eq!(store.pack(&digest(2)).await.unwrap(), Some(rows[2].clone()));
    assert_eq!(store.pack(&digest(9)).await.unwrap(), None);
    assert_eq!(store.pack_files(&digest(2)).await.unwrap(), Some(vec![2; 7]));
    assert_eq!(store.pack_files(&digest(9)).await.unwrap(), None);
    let page = store.packs(None, 2).await.unwrap();
    assert_eq!(page, [rows[1].clone(), rows[2].clone()], "in the order of their entries");
    assert_eq!(store.packs(Some(2), 2).await.unwrap(), [rows[0].clone()]);

    let approved = signature(8);
    let known = write(store, async |unit| {
        let of = unit.packs_of("kz").await?.len();
        let before = unit.packs_waiting().await?;
        let first = unit.approve_pack(&digest(1), &approved).await?;
        let twice = unit.approve_pack(&digest(1), &signature(9)).await?;
        let nobody = unit.approve_pack(&digest(9), &approved).await?;
        Ok((of, before, first, twice, nobody, unit.packs_waiting().await?))
    });
    assert_eq!(known.await.unwrap(), (2, 3, true, false, false, 2));
    let row = store.pack(&digest(1)).await.unwrap().unwrap();
    assert_eq!(row.approved, Some(approved.clone()));
    let inside = write(store, async |unit| unit.pack(&digest(1)).await).await.unwrap().unwrap();
    assert_eq!(inside, row);

    let expired = write(store, async |unit| {
        let none = unit.delete_expired_packs(UnixMillis::new(100)).await?;
        Ok((none, unit.delete_expired_packs(UnixMillis::new(101)).await?))
    });
    assert_eq!(expired.await.unwrap(), (0, 2), "what was approved stays");
    assert_eq!(store.packs(None, 9).await.unwrap(), [row]);
}

pub async fn the_latest_activation_to_take_effect_holds(store: &dyn Store) {
    let rows = [
        activation(4, 1, 100, false),
        activation(5, 2, 300, false),
        activation(6, 3, 200, false),
        // Of two at one time the later entry holds.
        activation(7, 4, 300, false),
        activation(8, 5, 50, true),
        activation(9, 6, 400, true),
    ];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_activation(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_activation(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    for (now, holds) in [
        (99, None),
        (100, Some(0)),
        (199, Some(0)),
        (200, Some(2)),
        (299, Some(2)),
        (300, Some(3)),
        (i64::MAX, Some(3)),
    ] {
        let now = UnixMillis::new(now);
        let expected = holds.map(|place: usize| rows[place].clone());
        assert_eq!(store.activation_at(now).await.unwrap(), expected, "{now:?}");
        let inside = write(store, async |unit| unit.activation_at(now).await).await.unwrap();
        assert_eq!(inside, expected);
    }
    assert_eq!(store.folder_activation().await.unwrap(), Some(rows[5].clone()));
    assert_eq!(store.activation(6).await.unwrap(), Some(rows[2].clone()));
    assert_eq!(store.activation(10).await.unwrap(), None);
    let coming = store.activations_after(UnixMillis::new(100), 2).await.unwrap();
    assert_eq!(coming, [rows[2].clone(), rows[1].clone()]);
    let of = write(store, async |unit| unit.activations_of("kz").await).await.unwrap();
    assert_eq!(of, rows);
    let of = write(store, async |unit| unit.activations_of("ru").await).await.unwrap();
    assert_eq!(of, []);
}
