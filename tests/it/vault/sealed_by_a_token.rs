//! Key-encryption keys that a PKCS#11 token seals: `softhsm2` in its place.

use std::fs;

use tulga::pki::Role;

use super::{Desk, bind, create, iins, state_of};
use crate::keys::TokenHome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_encryption_key_that_a_token_sealed_opens_with_it_alone() {
    let Some(token) = TokenHome::new("'kek'") else { return };
    let mut gateway = token.serve();
    let keys = token.home.path().join("data/keys");
    assert!(keys.join("kek.sealed").exists() && !keys.join("kek").exists());
    let checked = token.command(&["check-config"]).output().unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.lines().any(|line| line.starts_with("kek ") && line.ends_with("token")));
    let mut desk = Desk::new(gateway.connect(&token.home, Role::Enroller, "dev").await);
    let mut customers = Vec::new();
    for iin in iins().take(3) {
        customers.push(create(&mut desk, &iin).await);
    }
    let rotated = token.tulga(&gateway, &["keys", "rotate-kek", "--retire"]);
    let rotated = String::from_utf8_lossy(&rotated.stdout).into_owned();
    assert!(
        rotated.contains("token) is current") && rotated.contains("kek is destroyed"),
        "{rotated}"
    );
    assert!(keys.join("kek-2.sealed").exists() && !keys.join("kek.sealed").exists());
    // While it serves, nobody misses the token.
    let (tokens, away) = (token.home.path().join("tokens"), token.home.path().join("away"));
    fs::rename(&tokens, &away).unwrap();
    bind(&mut desk, &customers[0], "account-1").await.unwrap();
    drop(desk);
    assert!(gateway.terminate());

    fs::create_dir(&tokens).unwrap();
    let refused = token.command(&["serve"]).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("shows no token labelled \"bank\""), "{said}");
    fs::remove_dir(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();

    // A file that was altered opens nothing.
    let sealed = fs::read_to_string(keys.join("kek-2.sealed")).unwrap();
    let last = if sealed.trim_end().ends_with('0') { '1' } else { '0' };
    let altered = format!("{}{last}\n", &sealed.trim_end()[..sealed.trim_end().len() - 1]);
    fs::write(keys.join("kek-2.sealed"), altered).unwrap();
    let refused = token.command(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("does not open"), "{said}");
    fs::write(keys.join("kek-2.sealed"), &sealed).unwrap();

    let mut gateway = token.serve();
    let mut desk = Desk::new(gateway.connect(&token.home, Role::Enroller, "dev").await);
    for (number, customer) in customers.iter().enumerate() {
        bind(&mut desk, customer, &format!("again-{number}")).await.unwrap();
    }
    drop(desk);
    assert!(gateway.terminate());
    let (left, _) = state_of(&token.home.path().join("data"));
    assert_eq!(left.len(), 1);
}
