//! The office at the command line: registers from files, and the second person of an enrolment.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use tulga::pki::Role;

use crate::site::Site;

fn code_and_text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn lines(output: &Output) -> Vec<Value> {
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What `tulga register list --json` says of one register.
async fn in_force(site: &Site) -> Vec<(Value, Value, Value)> {
    let listed = site.tulga(&["register", "list", "--json"]).await;
    assert_eq!(listed.status.code(), Some(0));
    let [rows] = lines(&listed).try_into().unwrap();
    let of = |row: &Value| (row["name"].clone(), row["version"].clone(), row["count"].clone());
    rows.as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_is_imported_and_listed_at_the_command_line() {
    let site = Site::start().await;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(in_force(&site).await, []);
    let good = "value,note,valid_until\n000000300017,AFC-7,\n000000300029,,2099-01-01T00:00:00Z\n";
    let good = file(&dir, "good.csv", good);

    let dry = site.tulga(&["register", "import", "dropper", &good, "--dry-run"]).await;
    let (code, said, _) = code_and_text(&dry);
    assert_eq!(code, Some(0));
    assert_eq!(said, "2 added, 0 removed, 0 changed, 0 unchanged\nnothing was imported\n");
    assert_eq!(in_force(&site).await, []);

    let imported = site.tulga(&["register", "import", "dropper", &good, "--json"]).await;
    assert_eq!(imported.status.code(), Some(0));
    let [diff] = lines(&imported).try_into().unwrap();
    assert_eq!((&diff["added"], &diff["bad_rows"]), (&json!(2), &json!(0)));
    let version = &diff["version"];
    assert_eq!(
        (&version["name"], &version["version"], &version["count"]),
        (&json!("dropper"), &json!(1), &json!(2))
    );
    let hash = version["hash"].as_str().unwrap().to_owned();
    assert_eq!(in_force(&site).await, [(json!("dropper"), json!(1), json!(2))]);
    let (code, said, _) = code_and_text(&site.tulga(&["register", "list"]).await);
    assert_eq!(code, Some(0));
    for word in ["register", "dropper", &hash] {
        assert!(said.contains(word), "{word} in {said}");
    }
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_with_a_bad_row_is_refused_and_told_its_line() {
    let site = Site::start().await;
    let dir = tempfile::tempdir().unwrap();
    // The third line's number is mistyped, and the fifth's end is no time.
    let bad = "note,value,valid_until\nA,000000300017,\nA,000000300018,\nA,000000300029,\nA,000000300030,soon\n";
    let bad = file(&dir, "bad.csv", bad);
    let refused = site.tulga(&["register", "import", "dropper", &bad]).await;
    let (code, said, told) = code_and_text(&refused);
    assert_eq!(code, Some(1));
    assert!(told.contains("line 3: value: ") && told.contains("line 5: valid_until: "), "{told}");
    assert!(
        !told.contains("000000300018") && !told.contains("line 2") && !told.contains("line 4"),
        "{told}"
    );
    assert_eq!(said, "");
    let refused = site.tulga(&["register", "import", "dropper", &bad, "--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let rows = lines(&refused);
    let rows: Vec<_> = rows.iter().map(|row| (&row["line"], &row["field"])).collect();
    assert_eq!(rows, [(&json!(3), &json!("value")), (&json!(5), &json!("valid_until"))]);
    assert_eq!(in_force(&site).await, []);

    let skipped = site.tulga(&["register", "import", "dropper", &bad, "--skip-bad-rows"]).await;
    let (code, said, _) = code_and_text(&skipped);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 added") && said.contains("2 rows could not be taken"), "{said}");
    assert_eq!(in_force(&site).await, [(json!("dropper"), json!(1), json!(2))]);

    // A register that there is not, and a file without the column: nothing is asked of the gateway.
    let unknown = site.tulga(&["register", "import", "droppers", &bad]).await;
    let (code, _, told) = code_and_text(&unknown);
    assert_eq!(code, Some(64));
    assert!(told.contains("hotlist_card") && told.contains("unlicensed_platform"), "{told}");
    let other = file(&dir, "other.csv", "number\n000000300017\n");
    let (code, _, told) =
        code_and_text(&site.tulga(&["register", "import", "dropper", &other]).await);
    assert_eq!(code, Some(70));
    assert!(told.contains("names no column `value`"), "{told}");
    assert_eq!(in_force(&site).await, [(json!("dropper"), json!(1), json!(2))]);
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_person_activates_at_the_command_line() {
    let more = "[rate]\nper_terminal_per_minute = 10000\n[enrolment]\ntwo_people = true\n";
    let site = Site::with(more).await;
    drop(site.named(Role::Enroller, "second").await);
    let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/obama.jpg");
    let enrol = ["enroll", photograph, "--iin", "000000300017", "--subject", "A. B."];
    let enrolled =
        site.tulga(&[&enrol[..], &["--consent-ref", "archive/7", "--json"]].concat()).await;
    assert_eq!(enrolled.status.code(), Some(1), "nobody is active yet");
    let [waits] = lines(&enrolled).try_into().unwrap();
    let customer = waits["customer_id"].as_str().unwrap();
    assert_eq!(waits["needs_second_person"]["reason"], "SECOND_PERSON_REASON_TWO_PEOPLE");

    let (code, _, told) = code_and_text(&site.tulga(&["activate", customer]).await);
    assert_eq!(code, Some(1), "the first person again");
    assert!(told.contains("REQ_STATE"), "{told}");
    let (code, _, told) = code_and_text(&site.tulga(&["activate", "7", "--as", "second"]).await);
    assert_eq!(code, Some(1));
    assert!(told.contains("REQ_INVALID") && told.contains("customer_id"), "{told}");
    let activated = site.tulga(&["activate", customer, "--as", "second", "--json"]).await;
    assert_eq!(activated.status.code(), Some(0));
    let [active] = lines(&activated).try_into().unwrap();
    assert_eq!(
        (&active["customer_id"], &active["status"]),
        (&json!(customer), &json!("CUSTOMER_STATUS_ACTIVE"))
    );
    let again = site.tulga(&["activate", customer, "--as", "second"]).await;
    assert_eq!(again.status.code(), Some(1));
    site.finish().await;
}
