//! The built binary, as a person meets it.

use std::process::{Command, Output};

fn tulga(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tulga")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_binary_with_test_doubles_says_so() {
    let said = text(&tulga(&["--version"]).stdout);
    assert_eq!(said.contains("test-support"), cfg!(feature = "test-support"), "{said}");
}

#[test]
fn a_wrong_command_line_or_configuration_ends_with_64() {
    assert_eq!(tulga(&["no-such-command"]).status.code(), Some(64));
    assert_eq!(tulga(&["--config", "/no/such/file.toml", "check-config"]).status.code(), Some(64));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "[server]\nlisten = 1\n").unwrap();
    let output = tulga(&["--config", path.to_str().unwrap(), "serve"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("configuration"), "{}", text(&output.stderr));
}

#[test]
fn the_demonstration_plays_as_scripted_and_its_ledger_verifies() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
        .current_dir(root)
        .args(["demo", "--json"])
        .output()
        .unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["as_scripted"], true, "{}", seen["rows"]);
    assert_eq!(seen["ledger_good"], true, "{}", seen["ledger"]);
    let approved =
        seen["rows"].as_array().unwrap().iter().filter(|row| row["answer"] == "APPROVED");
    assert_eq!(approved.count(), 5);
    assert_eq!(output.status.code(), Some(0));
}
