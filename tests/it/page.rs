//! The auditor's page: that it is one file which asks for nothing, that its texts agree with the tables here,
//! and that it says the right thing of good and of tampered files, in Node and in a real browser.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use tulga::crypto::sha256;
use tulga::domain::reason::Reason;
use tulga::web::AUDIT_PAGE;

use crate::page_cases::write_all;
use crate::process::has;

/// Whether Node's `WebCrypto` knows Ed25519.
pub const HAS_ED25519: &str = "const { subtle } = globalThis.crypto ?? require('crypto').webcrypto; \
    subtle.generateKey('Ed25519', false, ['sign']).catch(() => process.exit(1))";

fn parts(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/audit").join(name)
}

fn foreign(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name)
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).unwrap().1.split_once(to).unwrap().0
}

/// A browser runs what the page's own policy names by its hash, and fetches nothing at all.
#[test]
fn the_page_allows_its_own_style_and_scripts_and_nothing_else() {
    let hash =
        |text: &str| format!("'sha256-{}'", STANDARD.encode(sha256(text.as_bytes()).as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {} {}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(between(AUDIT_PAGE, "<style>", "</style>")),
        hash(between(AUDIT_PAGE, "<script id=\"verifier\">", "</script>")),
        hash(between(AUDIT_PAGE, "<script id=\"page\">", "</script>")),
    );
    let mark = "Security-Policy\" content=\"";
    if std::env::var_os("UPDATE").is_some() {
        let head = fs::read_to_string(parts("head.html")).unwrap();
        let stale = between(&head, mark, "\">").to_owned();
        fs::write(parts("head.html"), head.replace(&stale, &policy)).unwrap();
    }
    let found = between(AUDIT_PAGE, mark, "\">");
    assert_eq!(found, policy, "head.html is stale: UPDATE=1 cargo test page, then again");
    assert_eq!(AUDIT_PAGE.matches("<script").count(), 2);
    assert_eq!(AUDIT_PAGE.matches("<style").count(), 1);
    // What could fetch, and what could read text as markup.
    let namespace = "http://www.w3.org/2000/svg";
    let without = AUDIT_PAGE.replace(namespace, "");
    for forbidden in [
        "http:",
        "https:/",
        "//cdn",
        " url(",
        ":url(",
        "@import",
        " src=",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "setTimeout(",
        " style=",
        "localStorage",
        "sendBeacon",
        "WebSocket",
        " onclick",
        " onload",
    ] {
        assert!(!without.contains(forbidden), "{forbidden}");
    }
}

/// `UPDATE=1 cargo test page` writes the table anew.
#[test]
fn the_pages_reasons_are_the_table() {
    let mut expected = String::from(
        "// Generated from src/domain/reason/table.rs: UPDATE=1 cargo test page\n\n\
         /// What the customer read, by the reason's code.\nconst REASONS = {\n",
    );
    for reason in Reason::ALL.iter().filter(|reason| reason.public() == **reason) {
        let text = reason.row().customer;
        for text in [text.kk, text.ru, text.en] {
            assert!(!text.contains(['"', '\\', '<']), "{text}");
        }
        let (code, kk, ru, en) = (reason.code(), text.kk, text.ru, text.en);
        writeln!(expected, "  {code}: [\"{kk}\", \"{ru}\", \"{en}\"],").unwrap();
    }
    expected.push_str("};\n");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(parts("reasons.js"), &expected).unwrap();
    }
    assert!(
        fs::read_to_string(parts("reasons.js")).unwrap() == expected,
        "reasons.js is stale: UPDATE=1 cargo test page"
    );
}

/// The page and its cases, in a folder.
fn shown() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (page, list) = (dir.path().join("audit.html"), dir.path().join("cases.json"));
    fs::write(&page, AUDIT_PAGE).unwrap();
    let cases = write_all(&dir.path().join("cases"));
    assert!(cases.len() > 45, "only {} cases", cases.len());
    fs::write(&list, serde_json::to_vec(&cases).unwrap()).unwrap();
    (dir, page, list)
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("ok: "), "{said}");
}

#[test]
fn node_finds_with_the_pages_verifier_what_each_case_has() {
    if !has("node", &["-e", HAS_ED25519], "get it with: apt-get install nodejs") {
        return;
    }
    let (_dir, page, list) = shown();
    passes(Command::new("node").arg(foreign("page_node.mjs")).args([&page, &list]));
}

#[test]
fn the_page_says_in_a_browser_what_each_case_has() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv-browser/bin/python3");
    let how = "get it with: apt-get install chromium; python3 -m venv target/venv-browser; \
               target/venv-browser/bin/pip install playwright";
    let there = has("chromium", &["--version"], how)
        && has(python.to_str().unwrap(), &["-c", "import playwright"], how);
    if !there {
        return;
    }
    let (_dir, page, list) = shown();
    let pictures = std::env::var_os("TULGA_PICTURES");
    passes(
        Command::new(python).arg(foreign("page_browser.py")).args([&page, &list]).args(pictures),
    );
}
