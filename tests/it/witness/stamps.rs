//! Time-stamps, with OpenSSL as the authority and as the auditor.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use tulga::crypto::StampAuthorities;
use tulga::ledger::{Checkpoint, TimestampToken};

use super::process::Bank;
use super::wait_for;
use crate::process::has;

#[test]
fn openssl_stamps_checkpoints_and_verifies_what_is_exported() {
    if !has("openssl", &["version"], "get it with: apt-get install openssl") {
        return;
    }
    let authority = Authority::new(&["-newkey", "rsa:2048"]);
    let address = authority.serve();
    let bank = Bank::new();
    bank.configure(&format!(
        "[tsa]\nurl = 'http://{address}/stamp'\ninterval_s = 1\nauthority = '{}'\n",
        authority.path("ca.pem")
    ));
    let gateway = bank.serve();
    gateway.tulga_ok(&bank.home, &["terminal", "register", "ATM-1"]);
    let export = bank.export_until(&gateway, |export| !stamps_of(export.dir.path()).is_empty());
    let stamps = stamps_of(export.dir.path());
    let pem = fs::read_to_string(authority.path("ca.pem")).unwrap();
    let authorities = StampAuthorities::from_pem(&pem).unwrap();
    for (size, file) in stamps {
        let note = export.checkpoint_of(size);
        let text = Checkpoint::peek(&note).unwrap().text();
        let answer = fs::read(&file).unwrap();
        TimestampToken::verify(&answer, &text, None, &authorities).unwrap();
        let data = export.dir.path().join("text");
        fs::write(&data, &text).unwrap();
        let said = Command::new("openssl")
            .args(["ts", "-verify", "-in", &file, "-CAfile", &authority.path("ca.pem"), "-data"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

#[test]
fn a_stamp_of_an_authority_that_is_not_trusted_is_not_kept() {
    if !has("openssl", &["version"], "get it with: apt-get install openssl") {
        return;
    }
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (authority, trusted) = (Authority::new(&key), Authority::new(&key));
    let address = authority.serve();
    let bank = Bank::new();
    bank.configure(&format!(
        "[tsa]\nurl = 'http://{address}'\ninterval_s = 1\nauthority = '{}'\n",
        trusted.path("ca.pem")
    ));
    let gateway = bank.serve();
    gateway.tulga_ok(&bank.home, &["terminal", "register", "ATM-1"]);
    wait_for("word of it", || gateway.log().contains("no time-stamp was obtained").then_some(()));
    assert!(stamps_of(bank.export(&gateway).dir.path()).is_empty());
}

/// The sizes and files of exported stamps.
fn stamps_of(dir: &Path) -> Vec<(u64, String)> {
    let Ok(entries) = fs::read_dir(dir.join("export/tsa")) else { return Vec::new() };
    let stamp = |entry: fs::DirEntry| {
        let size = entry.file_name().to_str()?.strip_suffix(".tsr")?.parse().ok()?;
        Some((size, entry.path().to_str()?.to_owned()))
    };
    entries.map(|entry| stamp(entry.unwrap()).unwrap()).collect()
}

/// A certificate authority, and the key of an authority of time-stamps under it.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new(key: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Self { dir };
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let mut ca = vec!["req", "-x509", "-days", "30", "-subj", "/CN=ca"];
        ca.extend(ec);
        made.openssl(&[&ca[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
        let request = ["req", "-new", "-nodes", "-subj", "/CN=tsa", "-keyout", "tsa.key"];
        made.openssl(&[&request[..], key, &["-out", "tsa.csr"]].concat());
        fs::write(made.path("ext"), "extendedKeyUsage=critical,timeStamping\n").unwrap();
        made.openssl(&[
            "x509",
            "-req",
            "-in",
            "tsa.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "30",
            "-extfile",
            "ext",
            "-out",
            "tsa.pem",
        ]);
        fs::write(made.path("serial"), "01").unwrap();
        let config = "[tsa]\ndefault_tsa = t\n[t]\nserial = serial\nsigner_cert = tsa.pem\n\
            signer_key = tsa.key\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n\
            digests = sha256\ness_cert_id_alg = sha256\n";
        fs::write(made.path("ts.cnf"), config).unwrap();
        made
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, arguments: &[&str]) {
        run_in(self.dir.path(), arguments);
    }

    /// Answers over HTTP what `openssl ts -reply` says; the address.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dir = self.dir.path().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own affair.
                drop(stream.and_then(|stream| answer(&dir, stream)));
            }
        });
        address
    }
}

fn run_in(dir: &Path, arguments: &[&str]) {
    let said = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// One request on one connection.
fn answer(dir: &Path, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut query = vec![0; length];
    reader.read_exact(&mut query)?;
    fs::write(dir.join("query"), query)?;
    run_in(dir, &["ts", "-reply", "-config", "ts.cnf", "-queryfile", "query", "-out", "reply"]);
    let reply = fs::read(dir.join("reply"))?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        reply.len()
    )?;
    stream.write_all(&reply)
}
