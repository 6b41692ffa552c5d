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
fn an_instruction_set_that_cannot_be_had_is_refused_not_replaced() {
    let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("check-config")
        .env("TULGA_ISA", "fastest")
        .output()
        .unwrap();
    let told = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(
        told.contains("TULGA_ISA is \"fastest\"; it may be plain, avx2, avx512 or amx"),
        "{told}"
    );
}

#[test]
fn a_switch_that_rounds_what_models_are_held_against_is_refused() {
    let check = |word| {
        let output = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("check-config")
            .env("TRACT_AMX_BF16", word)
            .output()
            .unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), told)
    };
    for word in ["1", "true"] {
        let (code, told) = check(word);
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains("TRACT_AMX_BF16 is set") && told.contains("unset it"), "{told}");
    }
    let (_, told) = check("0");
    assert!(!told.contains("TRACT_AMX_BF16"), "{told}");
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
    let rows = seen["rows"].as_array().unwrap();
    let answers = |scene: &str| -> Vec<&str> {
        let rows = rows.iter().filter(|row| row["scene"].as_str().unwrap().contains(scene));
        rows.map(|row| row["answer"].as_str().unwrap()).collect()
    };
    let machine = answers("At the machine");
    assert_eq!(machine.iter().filter(|answer| **answer == "APPROVED").count(), 6);
    // The day in Almaty has every outcome, and each decision a rule that made it.
    let almaty = answers("Almaty");
    for outcome in ["APPROVED", "APPROVED_CAPPED", "DENIED", "STEP_UP", "HELD", "INCONCLUSIVE"] {
        assert!(almaty.contains(&outcome), "{outcome}");
    }
    let held = rows.iter().find(|row| row["answer"] == "HELD").unwrap();
    assert!(held["rules"].as_array().unwrap().contains(&"KZ-08.shared_face".into()));
    let reports = seen["reports"].as_array().unwrap();
    assert!(reports.iter().all(|report| report["rows"].as_u64() > Some(0)), "{reports:?}");
    assert_eq!(reports.len(), 3);
    assert_eq!(output.status.code(), Some(0));
}

/// The name is the same as in docs/reference.md; a wrong line is not repeated, and ends it.
#[test]
fn a_folder_of_references_is_named_from_numbers_on_the_standard_input() {
    use std::io::Write as _;
    let named = |tenant: &str, numbers: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .args(["reference", "name", "--tenant", tenant])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // One that has seen enough reads no further.
        drop(child.stdin.take().unwrap().write_all(numbers));
        child.wait_with_output().unwrap()
    };
    let name = "fc7094a4aef001b55ff466ea9b3db0463f02c98ccc601c3ed6832c28a908dab2\n";
    let good = named("bank-a", b"000000300017\r\n000000300029\n000000300017");
    let lines = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(lines.starts_with(name) && lines.ends_with(name) && lines.lines().count() == 3);
    let long = [b"000000300017\n".as_slice(), &vec![b'7'; 100_000]].concat();
    for wrong in [b"000000300017\n000000300018\n000000300029\n".to_vec(), long] {
        let stopped = named("bank-a", &wrong);
        assert_eq!((stopped.status.code(), text(&stopped.stdout).as_str()), (Some(1), name));
        let said = text(&stopped.stderr);
        assert!(
            said.contains("line 2") && !said.contains("3000") && !said.contains("777"),
            "{said}"
        );
    }
    assert_eq!(named("not a tenant", b"").status.code(), Some(64));
    let doc = include_str!("../../docs/reference.md");
    assert!(doc.contains(name.trim()), "the page's example is another");
}
