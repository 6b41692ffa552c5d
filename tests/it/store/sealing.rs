//! Keys that captures are sealed to, and challenges of captures at enrolment.

use tulga::domain::finger::FingerPosition;
use tulga::domain::id::CaptureKeyId;
use tulga::domain::modality::Modality;
use tulga::domain::time::UnixMillis;
use tulga::store::{CaptureKeyRow, EnrolmentChallengeRow, Store, StoreError};

use super::fixtures::{add_customer, customer_id, digest, terminal, write};

fn key(number: u8, made_at: i64) -> CaptureKeyRow {
    CaptureKeyRow {
        id: CaptureKeyId::try_from(format!("capture-{number}").as_str()).unwrap(),
        public_key: [number; 32],
        sealed: vec![number, 0, 255],
        made_at: UnixMillis::new(made_at),
        counts_until: None,
    }
}

pub async fn a_key_that_captures_are_sealed_to_opens_until_its_end_and_is_destroyed_then(
    store: &dyn Store,
) {
    let at = UnixMillis::new;
    let (old, new) = (key(2, 10), key(1, 20));
    assert_eq!(store.capture_keys().await.unwrap(), []);
    write(store, async |unit| unit.insert_capture_key(&old).await).await.unwrap();
    let again = write(store, async |unit| unit.insert_capture_key(&old).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    write(store, async |unit| {
        unit.end_capture_keys(at(100)).await?;
        unit.insert_capture_key(&new).await
    })
    .await
    .unwrap();
    let ended = CaptureKeyRow { counts_until: Some(at(100)), ..old.clone() };
    assert_eq!(store.capture_keys().await.unwrap(), [ended.clone(), new.clone()]);
    assert_eq!(store.capture_key(&old.id).await.unwrap(), Some(ended.clone()));
    assert_eq!(store.capture_key(&key(3, 0).id).await.unwrap(), None);
    // Whatever was to end sooner still does.
    let newest = key(4, 30);
    write(store, async |unit| {
        unit.end_capture_keys(at(200)).await?;
        unit.insert_capture_key(&newest).await
    })
    .await
    .unwrap();
    let ends = store.capture_keys().await.unwrap().into_iter().map(|row| row.counts_until);
    assert_eq!(ends.collect::<Vec<_>>(), [Some(at(100)), Some(at(200)), None]);
    let forget = async |now| write(store, async |unit| unit.forget_capture_keys(now).await).await;
    assert_eq!(forget(at(99)).await.unwrap(), 0);
    assert_eq!(forget(at(100)).await.unwrap(), 1);
    assert_eq!(store.capture_key(&old.id).await.unwrap(), None);
    assert_eq!(forget(at(i64::MAX)).await.unwrap(), 1);
    assert_eq!(store.capture_keys().await.unwrap(), [newest]);
}

pub async fn an_enrolments_challenge_is_used_once_and_goes_with_its_end_or_the_customer(
    store: &dyn Store,
) {
    let at = UnixMillis::new;
    add_customer(store, 1).await;
    let row = |number: u8, customer: u8, modality: Modality, end: i64| EnrolmentChallengeRow {
        hash: digest(number),
        customer: customer_id(customer),
        modality,
        terminal: terminal("DESK-1"),
        opened_by: digest(90),
        answer: digest(91),
        expires_at: at(end),
    };
    let finger = Modality::Finger(FingerPosition::LeftRing);
    let rows = [
        row(1, 1, Modality::Face, 100),
        row(2, 1, finger, 200),
        row(3, 2, finger, 300),
        row(4, 1, finger, 300),
    ];
    write(store, async |unit| {
        for row in &rows {
            unit.insert_enrolment_challenge(row).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let again = write(store, async |unit| unit.insert_enrolment_challenge(&rows[0]).await).await;
    assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    for row in &rows {
        assert_eq!(store.enrolment_challenge(&row.hash).await.unwrap().as_ref(), Some(row));
    }
    assert_eq!(store.enrolment_challenge(&digest(9)).await.unwrap(), None);
    write(store, async |unit| {
        // One of the same enroller for the same finger of the same customer takes their place.
        let finger = row(5, 1, finger, 300);
        let other =
            EnrolmentChallengeRow { opened_by: digest(92), hash: digest(6), ..finger.clone() };
        unit.insert_enrolment_challenge(&other).await?;
        assert_eq!(unit.drop_enrolment_challenges(&other).await?, 1);
        let thumb = Modality::Finger(FingerPosition::LeftThumb);
        assert_eq!(unit.drop_enrolment_challenges(&row(7, 1, thumb, 300)).await?, 0);
        assert!(unit.take_enrolment_challenge(&rows[0].hash).await?);
        assert!(!unit.take_enrolment_challenge(&rows[0].hash).await?);
        assert_eq!(unit.forget_enrolment_challenges(at(200)).await?, 0);
        assert_eq!(unit.forget_enrolment_challenges(at(201)).await?, 1);
        unit.insert_enrolment_challenge(&finger).await?;
        assert_eq!(unit.drop_enrolment_challenges(&finger).await?, 2);
        unit.insert_enrolment_challenge(&finger).await?;
        unit.erase_customer(&customer_id(1), at(5)).await.map(drop)
    })
    .await
    .unwrap();
    for (row, is_there) in rows.iter().zip([false, false, true, false]) {
        let found = store.enrolment_challenge(&row.hash).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{row:?}");
    }
}
