//! Sensors that sign captures, and captures that were seen.

use tulga::crypto::{Ed25519Key, Signer as _};
use tulga::domain::id::{SensorId, SensorKeyId};
use tulga::domain::sensor::{SensorKeyStanding, SensorModality, TrustLevel};
use tulga::domain::time::UnixMillis;
use tulga::store::{SensorKeyRow, Store, StoreError};

use super::fixtures::{digest, terminal, write};

fn key(number: u8, sensor: &str, at: i64) -> SensorKeyRow {
    SensorKeyRow {
        key_id: SensorKeyId::try_from(format!("key-{number}").as_str()).unwrap(),
        sensor: SensorId::try_from(sensor).unwrap(),
        terminal: terminal("ATM-1"),
        modality: SensorModality::ALL[usize::from(number % 2)],
        level: TrustLevel::ALL[usize::from(number % 2)],
        key: Ed25519Key::from_seed([number; 32]).unwrap().public_key(),
        firmware: "1.2".into(),
        camera: String::new(),
        registered_at: UnixMillis::new(at),
        counts_until: None,
        suspended_at: None,
        revoked_at: None,
        counter: 0,
    }
}

pub async fn a_sensors_key_is_registered_once_and_changes_in_what_changes(store: &dyn Store) {
    let row = key(1, "CAM-1", 10);
    write(store, async |unit| unit.insert_sensor_key(&row).await).await.unwrap();
    let renamed = SensorKeyRow { key_id: key(2, "CAM-1", 1).key_id, ..row.clone() };
    let other_key = SensorKeyRow { key: key(2, "CAM-1", 1).key, ..row.clone() };
    for taken in [row.clone(), renamed, other_key] {
        let again = write(store, async |unit| unit.insert_sensor_key(&taken).await).await;
        assert!(matches!(again, Err(StoreError::Exists)), "{again:?}");
    }
    assert_eq!(store.sensor_key(&row.key_id).await.unwrap(), Some(row.clone()));
    let changed = SensorKeyRow {
        counts_until: Some(UnixMillis::new(40)),
        suspended_at: Some(UnixMillis::new(20)),
        revoked_at: Some(UnixMillis::new(50)),
        counter: i64::MAX.unsigned_abs(),
        ..row.clone()
    };
    let nobodys = key(9, "CAM-9", 1);
    write(store, async |unit| {
        assert!(unit.update_sensor_key(&changed).await?);
        assert!(!unit.update_sensor_key(&nobodys).await?);
        assert_eq!(unit.sensor_key(&row.key_id).await?, Some(changed.clone()));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.sensor_key(&row.key_id).await.unwrap(), Some(changed.clone()));
    assert_eq!(store.sensor_key(&nobodys.key_id).await.unwrap(), None);
    let standing = |row: &SensorKeyRow, at: i64| row.standing(UnixMillis::new(at));
    assert_eq!(standing(&changed, 60), SensorKeyStanding::Revoked);
    let row = SensorKeyRow { revoked_at: None, ..changed };
    assert_eq!(standing(&row, 39), SensorKeyStanding::Suspended);
    assert_eq!(standing(&row, 40), SensorKeyStanding::Replaced);
    let row = SensorKeyRow { suspended_at: None, ..row };
    assert_eq!(standing(&row, 39), SensorKeyStanding::Active);
}

pub async fn sensors_keys_come_by_name_in_pages_and_by_sensor_and_age(store: &dyn Store) {
    let rows = [key(1, "CAM-2", 30), key(2, "CAM-1", 20), key(3, "CAM-2", 10)];
    write(store, async |unit| {
        for row in rows.iter().rev() {
            unit.insert_sensor_key(row).await?;
        }
        let of = unit.keys_of_sensor(&rows[0].sensor).await?;
        assert_eq!(of, [rows[2].clone(), rows[0].clone()]);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(store.sensor_keys(None, 2).await.unwrap(), rows[..2]);
    assert_eq!(store.sensor_keys(Some(&rows[1].key_id), 2).await.unwrap(), rows[2..]);
    let of = store.keys_of_sensor(&rows[0].sensor).await.unwrap();
    assert_eq!(of, [rows[2].clone(), rows[0].clone()]);
}

pub async fn a_capture_is_known_again_until_its_end(store: &dyn Store) {
    let at = UnixMillis::new;
    write(store, async |unit| {
        unit.note_capture(&digest(1), at(100)).await?;
        unit.note_capture(&digest(2), at(200)).await?;
        assert!(unit.is_capture_seen(&digest(1), at(99)).await?);
        assert!(!unit.is_capture_seen(&digest(3), at(0)).await?);
        Ok(())
    })
    .await
    .unwrap();
    assert!(store.is_capture_seen(&digest(1), at(99)).await.unwrap());
    assert!(!store.is_capture_seen(&digest(1), at(100)).await.unwrap());
    // Seen again, it is known for longer; what is over is forgotten, and nothing else.
    write(store, async |unit| unit.note_capture(&digest(1), at(300)).await).await.unwrap();
    let forgotten = write(store, async |unit| unit.forget_captures(at(200)).await).await;
    assert_eq!(forgotten.unwrap(), 1);
    assert!(store.is_capture_seen(&digest(1), at(299)).await.unwrap());
    assert!(!store.is_capture_seen(&digest(2), at(0)).await.unwrap());
}
