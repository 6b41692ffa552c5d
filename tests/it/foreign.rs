//! Verifiers that share no code with ours: Python with `cryptography`, and openssl with coreutils.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use tulga::app::trust_fingerprint;
use tulga::audit::find_receipt;
use tulga::ledger::TlogProof;
use tulga::receipt::ErasedBody;

use crate::audit::Book;
use crate::process::{Home, has};
use crate::receipts::{erasure_of_bodies, verification};

/// An export with an erased body, and the proof of entry 6 beside it.
fn sample() -> (Book, TempDir) {
    let mut book = Book::of_size(30, 9);
    book.append(erasure_of_bodies(3, 3));
    book.append(verification());
    let leaf = book.tree.leaf(3).unwrap();
    book.erased = vec![ErasedBody { index: 3, erasure: 9, leaf }];
    book.lines.remove(3);
    let dir = book.export();
    let checkpoint = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let proof = TlogProof::make(&book.tree, 6, 11, checkpoint).unwrap().to_text();
    fs::write(dir.path().join("6.tlog-proof"), proof).unwrap();
    fs::write(dir.path().join("6.jws"), &book.lines[5]).unwrap();
    (book, dir)
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name)
}

fn run(program: &str, arguments: &[&Path], trust: &str) -> Output {
    Command::new(program)
        .args(arguments)
        .arg(trust)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap()
}

fn accepted(output: &Output, line: &str) {
    let (out, error) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    assert_eq!(String::from_utf8_lossy(out).trim(), line);
}

fn refused(output: &Output, why: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("REFUSED: {why}")), "{error}");
}

fn has_python() -> bool {
    has("python3", &["-c", "import cryptography"], "get it with: pip install cryptography")
}

#[test]
fn python_verifies_one_receipt_with_its_proof() {
    if !has_python() {
        return;
    }
    let (book, dir) = sample();
    let (at, trust) = (|name: &str| dir.path().join(name), book.trust().to_string());
    let python = |receipt: &Path, proof: &Path, trust: &str| {
        run("python3", &[&script("verify_receipt.py"), receipt, proof, dir.path()], trust)
    };
    let (receipt, proof) = (at("6.jws"), at("6.tlog-proof"));
    let line = "ok: receipt AAAAAAAAAAAAAAAAAAAABg (verification) is entry 6 of 11";
    accepted(&python(&receipt, &proof, &trust), line);
    refused(&python(&receipt, &proof, &"0".repeat(64)), "keys.json names no root key");
    fs::write(at("other.jws"), &book.lines[6]).unwrap();
    refused(&python(&at("other.jws"), &proof, &trust), "a proof of another index");
    let altered = fs::read_to_string(&proof).unwrap().replace("\n11\n", "\n12\n");
    fs::write(at("altered"), altered).unwrap();
    refused(&python(&receipt, &at("altered"), &trust), "checkpoint: the signature");
}

#[test]
fn python_rebuilds_the_whole_ledger() {
    if !has_python() {
        return;
    }
    let (book, dir) = sample();
    let trust = book.trust().to_string();
    let python = || run("python3", &[&script("verify_export.py"), dir.path()], &trust);
    accepted(&python(), "ok: 11 entries, 2 kept checkpoints");
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    let joined = |lines: &[String]| lines.join("\n") + "\n";
    let mut lines = book.lines.clone();
    lines.remove(5);
    write("receipts.jws", joined(&lines));
    refused(&python(), "entry 6 is missing or out of order");
    write("receipts.jws", joined(&book.lines[..9]));
    refused(&python(), "the checkpoint covers 11 entries, the export has 10");
    let mut lines = book.lines.clone();
    lines[5] = lines[5].replacen('Q', "R", 1);
    write("receipts.jws", joined(&lines));
    assert!(!python().status.success());
    write("receipts.jws", joined(&book.lines));
    write("erasures.json", "{\"erased\":[]}".to_owned());
    refused(&python(), "entry 3 is missing or out of order");
}

#[test]
fn openssl_and_coreutils_verify_one_receipt_with_its_proof() {
    let tools = has("openssl", &["version"], "get it with: apt-get install openssl")
        && has("basenc", &["--version"], "get it with: apt-get install coreutils");
    if !tools {
        return;
    }
    let (book, dir) = sample();
    let (at, trust) = (|name: &str| dir.path().join(name), book.trust().to_string());
    let shell = |receipt: &Path, proof: &Path, trust: &str| {
        run("sh", &[&script("verify_receipt.sh"), receipt, proof, dir.path()], trust)
    };
    let (receipt, proof) = (at("6.jws"), at("6.tlog-proof"));
    accepted(&shell(&receipt, &proof, &trust), "ok: the receipt is entry 6 of 11");
    refused(&shell(&receipt, &proof, &"0".repeat(64)), "the root key has another fingerprint");
    fs::write(at("other.jws"), &book.lines[6]).unwrap();
    refused(&shell(&at("other.jws"), &proof, &trust), "the proof is of another place");
    let text = fs::read_to_string(&proof).unwrap();
    fs::write(at("altered"), text.replace("\n11\n", "\n12\n")).unwrap();
    refused(&shell(&receipt, &at("altered"), &trust), "the checkpoint's signature");
    let lines: Vec<&str> = text.lines().collect();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    fs::write(at("altered"), swapped.join("\n") + "\n").unwrap();
    refused(&shell(&receipt, &at("altered"), &trust), "the receipt is not in the ledger");
    let mut jws = fs::read_to_string(&receipt).unwrap();
    let last = jws.len() - 10;
    let letter = if &jws[last..=last] == "A" { "B" } else { "A" };
    jws.replace_range(last..=last, letter);
    fs::write(at("altered.jws"), jws).unwrap();
    refused(&shell(&at("altered.jws"), &proof, &trust), "the receipt's signature");
}

/// The whole way from outside: a client written from the `.proto` files in another language, and the
/// verifiers over what it fetched.
#[test]
fn a_python_client_enrols_verifies_and_fetches_what_the_foreign_verifiers_accept() {
    let imports = ["-c", "import grpc, grpc_tools, cryptography"];
    let how = "get it with: pip install grpcio grpcio-tools cryptography";
    if !has("python3", &imports, how) {
        return;
    }
    let home = Home::new();
    let gateway = home.serve();
    let (pki, root) = (home.data().pki(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let out = home.path().join("fetched");
    let clients = home.data().path().join("pki/clients");
    let arguments = [
        &script("client.py"),
        &root.join("proto"),
        Path::new(&gateway.address),
        &pki.authority_path(),
        &clients,
        &root.join("demo"),
    ];
    let output = run("python3", &arguments, out.to_str().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("ok: approved as entry "), "{said}");

    let trust = trust_fingerprint(&home.data()).unwrap().to_string();
    let (receipt, proof) = (out.join("receipt.jws"), out.join("receipt.tlog-proof"));
    let verifiers = [
        ("python3", vec![script("verify_receipt.py"), receipt.clone(), proof.clone(), out.clone()]),
        ("python3", vec![script("verify_export.py"), out.clone()]),
        ("sh", vec![script("verify_receipt.sh"), receipt, proof, out.clone()]),
    ];
    for (program, arguments) in verifiers {
        let arguments: Vec<&Path> = arguments.iter().map(PathBuf::as_path).collect();
        let output = run(program, &arguments, &trust);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.starts_with(b"ok: "));
    }

    our_own_verifier_agrees(&home, &out, &trust);
}

/// `tulga audit` over the same files: the whole ledger, one receipt alone, and in plain words.
fn our_own_verifier_agrees(home: &Home, out: &Path, trust: &str) {
    let at = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let folder = out.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = run(&["audit", "verify", folder, "--trust", trust]);
    assert_eq!(code, Some(0), "{said}");
    let (receipt, proof) = (at("receipt.jws"), at("receipt.tlog-proof"));
    let alone = ["audit", "verify", "--receipt", &receipt, "--proof", &proof, "--keys", folder];
    let (code, said) = run(&[&alone[..], &["--trust", trust]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&[&alone[..], &["--trust", &"0".repeat(64)]].concat());
    assert_ne!(code, Some(0), "{said}");
    let jws = fs::read_to_string(&receipt).unwrap();
    let index = (0..100).find(|index| find_receipt(out, *index).unwrap().as_ref() == Some(&jws));
    let index = index.unwrap().to_string();
    let (code, said) = run(&["audit", "show", &index, "--dir", folder]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ATM-FOREIGN") && said.contains("APPROVED"), "{said}");
    let (code, said) = run(&["audit", "show", "1000", "--dir", folder]);
    assert_eq!(code, Some(1), "{said}");
}

/// Certificates made by another library and shown by another client: nothing but the right one opens.
#[test]
fn a_python_client_finds_no_certificate_that_opens_what_it_should_not() {
    let imports = ["-c", "import grpc, cryptography"];
    if !has("python3", &imports, "get it with: pip install grpcio cryptography") {
        return;
    }
    let home = Home::new();
    let mut gateway = home.serve();
    gateway.tulga_ok(&home, &["terminal", "register", "ATM-FOREIGN"]);
    let pki = home.data().path().join("pki");
    let arguments = [&script("certificates.py"), Path::new(&gateway.address), &pki];
    let output = run("python3", &arguments, "ATM-FOREIGN");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), "ok: 54 certificates were shown");
    assert!(gateway.terminate(), "{}", gateway.log());
}
