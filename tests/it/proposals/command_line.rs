//! Two people at the command line, and the root key's holder on a stopped gateway.

use std::sync::Arc;

use tulga::clock::SystemClock;
use tulga::domain::id::PrincipalName;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;

use super::{iin_of_nobody, terminals};
use crate::process::Home;
use crate::site::{Site, consent, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_erase_at_the_command_line() {
    let rate = "[rate]\nper_terminal_per_minute = 10000\n";
    let dir = tempfile::tempdir().unwrap();
    let site = Site::by_two(dir, 0, "", rate, Arc::new(SystemClock)).await;
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let created = proto::CreateCustomerRequest { iin: iin_of_nobody(7), consent: Some(consent()) };
    let customer = desk.create_customer(created).await.unwrap().into_inner().customer_id;
    drop(desk);
    let run = async |arguments: &[&str]| {
        let output = site.tulga(arguments).await;
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&["customer", "erase", &customer]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("waits until") && said.contains("tulga proposals approve"), "{said}");
    let (code, said) = run(&["proposals", "list", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let listed: serde_json::Value = serde_json::from_str(&said).unwrap();
    let id = listed[0]["proposal_id"].as_str().unwrap().to_owned();
    assert_eq!((&listed[0]["act"], &listed[0]["state"]), (&"erasure".into(), &"open".into()));
    assert_eq!(listed[0]["customer_id"].as_str(), Some(customer.as_str()));
    let (code, said) = run(&["proposals", "approve", &id]).await;
    assert_eq!(code, Some(1), "the first person again: {said}");
    assert!(said.contains("REQ_STATE"), "{said}");
    let (code, said) = run(&["proposals", "approve", &id, "--as", "dev-second"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is done; the entry at index "), "{said}");
    let (code, said) = run(&["proposals", "list"]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (_, said) = run(&["proposals", "list", "--all"]).await;
    assert!(said.contains(&id) && said.contains("done"), "{said}");
    // A person, by their certificate; withdrawn again.
    site.certified(Role::Enroller, "aizhan");
    let path = site.pki().client_path(Role::Enroller, &PrincipalName::try_from("aizhan").unwrap());
    let path = path.to_str().unwrap();
    let register = ["principals", "register", path, "--unit", "branch-1", "--json"];
    let (code, said) = run(&register).await;
    assert_eq!(code, Some(0), "{said}");
    let waits: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(waits["subject"], "enroller/aizhan@branch-1");
    let id = waits["proposal_id"].as_str().unwrap();
    let (code, said) = run(&["proposals", "withdraw", id, "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["principals", "list"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("operations") && said.contains("dev-second"), "{said}");
    assert!(!said.contains("aizhan"), "{said}");
    site.finish().await;
}

/// The root key's word on the first people counts once: whoever empties the register and puts their file back
/// brings nobody back.
#[test]
fn the_first_people_are_registered_once() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    assert!(home.command(&["init"]).output().unwrap().status.success());
    let file = home.data().path().join("principals.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read(&file).unwrap();
    let asks = |gateway: &crate::process::Gateway| {
        runtime.block_on(async {
            let channel = gateway.connect(&home, Role::Admin, "dev").await;
            terminals(&channel).await.map_err(|status| reason(&status))
        })
    };
    let mut gateway = home.serve();
    assert_eq!(asks(&gateway), Ok(()));
    assert!(!file.exists(), "it has done its work");
    assert!(gateway.terminate());

    let database = rusqlite::Connection::open(home.data().path().join("tulga.sqlite")).unwrap();
    assert!(database.execute("DELETE FROM principals", []).unwrap() > 1);
    drop(database);
    std::fs::write(&file, kept).unwrap();
    let gateway = home.serve();
    assert_eq!(asks(&gateway), Err("DEV_UNKNOWN".into()));
    gateway.assert_logs("the ledger tells of people who were");
}

/// A folder without the first people's file is one of an earlier version, or of a bank with its own authority.
#[test]
fn the_root_keys_holder_registers_people_while_the_gateway_is_stopped() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    assert!(run(&["init"]).0);
    std::fs::remove_file(home.data().path().join("principals.json")).unwrap();
    let mut gateway = home.serve();
    let asks = |gateway: &crate::process::Gateway| {
        runtime.block_on(async {
            let channel = gateway.connect(&home, Role::Admin, "dev").await;
            terminals(&channel).await.map_err(|status| reason(&status))
        })
    };
    assert_eq!(asks(&gateway), Err("DEV_UNKNOWN".into()));
    gateway.assert_logs("tulga principals pin");
    assert!(gateway.terminate());

    let name = PrincipalName::try_from("dev").unwrap();
    let path = home.data().pki().client_path(Role::Admin, &name);
    let pin = ["principals", "pin", path.to_str().unwrap(), "--unit", "operations"];
    // The root key was taken off the machine, as it should be.
    let (kept, taken) = (home.data().path().join("keys/root.pem"), home.path().join("root.pem"));
    std::fs::rename(kept, &taken).unwrap();
    let (done, said) = run(&pin);
    assert!(!done && said.contains("`--root FILE` says where"), "{said}");
    let of_root = ["--root", taken.to_str().unwrap()];
    let (done, said) = run(&[&pin[..], &of_root].concat());
    assert!(
        done && said.contains("registered: admin/dev@operations; the entry at index"),
        "{said}"
    );
    let (done, said) = run(&[&pin[..], &of_root].concat());
    assert!(!done && said.contains("exists already"), "{said}");
    let mut gateway = home.serve();
    assert_eq!(asks(&gateway), Ok(()));
    assert!(gateway.terminate());
    let unpin = ["principals", "unpin", path.to_str().unwrap(), "--unit", "operations"];
    let (done, said) = run(&[&unpin[..], &of_root].concat());
    assert!(done && said.contains("revoked: admin/dev@operations"), "{said}");
    let host = home.data().pki().client_path(Role::Host, &name);
    let (done, said) =
        run(&[&["principals", "pin", host.to_str().unwrap(), "--unit", "it"][..], &of_root]
            .concat());
    assert!(!done && said.contains("no certificate of a person of this bank"), "{said}");
    let gateway = home.serve();
    assert_eq!(asks(&gateway), Err("DEV_UNKNOWN".into()));
}
