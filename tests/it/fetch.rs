//! An export behind a plain web server: fetched and verified like a folder, and nothing else is followed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use tulga::web::files::{FetchError, HttpFiles};

use crate::audit::Book;
use crate::mutations::honest_export;

/// Serves the files of a folder on a free port for as long as the test runs; every request for `moved`
/// is answered with a redirection.
fn serve(dir: &Path, keep_alive: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let dir = dir.clone();
            std::thread::spawn(move || answer(stream, &dir, keep_alive));
        }
    });
    address
}

fn answer(mut stream: TcpStream, dir: &Path, keep_alive: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line);
        }
        let path = lines[0].split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        let file: PathBuf = dir.join(&path);
        let (status, body) = match fs::read(&file) {
            _ if path == "moved" => ("302 Found\r\nLocation: http://127.0.0.1:1/", Vec::new()),
            _ if path == "broken" => ("500 Internal Server Error", Vec::new()),
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", b"there is no such file".to_vec()),
        };
        let end = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: {end}\r\n\r\n",
            body.len()
        );
        // The other side may have had enough.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        if sent.is_err() || !keep_alive {
            return;
        }
    }
}

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: tulga::cli::audit_verify::Args,
}

fn exit(arguments: &[&str]) -> ExitCode {
    let line = ["verify"].iter().chain(arguments);
    let args = <CommandLine as clap::Parser>::try_parse_from(line).unwrap().args;
    tulga::cli::audit_verify::run(args).unwrap()
}

#[test]
fn an_export_behind_a_web_server_is_verified_like_a_folder() {
    let book = Book::of_size(20, 9);
    let dir = book.export();
    let trust = book.trust().to_string();
    for keep_alive in [true, false] {
        let address = serve(dir.path(), keep_alive);
        assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::SUCCESS);
    }
    let address = serve(dir.path(), true);
    assert_eq!(exit(&[&address]), ExitCode::from(1), "no trust was given");
    let file = dir.path().join("receipts.jws");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::from(1));
    fs::remove_file(dir.path().join("keys.json")).unwrap();
    assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::from(64));
}

#[test]
fn several_ledgers_with_their_tiles_are_fetched_by_the_names_that_the_register_has() {
    let (dir, trust) = honest_export();
    let address = serve(dir.path(), true);
    let trust = trust.to_string();
    assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::SUCCESS);
    let ledger = dir.path().join("cash.bank.example/gw07/2026h2");
    fs::write(ledger.join("tile/0/002"), vec![0; 8192]).unwrap();
    assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::from(1));
    fs::remove_dir_all(ledger).unwrap();
    assert_eq!(exit(&[&address, "--trust", &trust]), ExitCode::from(1));
}

const SERVER: &str = "
import http.server, ssl, sys
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

/// Python's server of the files of a folder, with a certificate of an authority made for it.
struct ForeignServer {
    child: Child,
    address: String,
    authority: PathBuf,
    _keys: tempfile::TempDir,
}

impl ForeignServer {
    fn of(dir: &Path) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let at = |name: &str| keys.path().join(name);
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(params.clone(), KeyPair::generate().unwrap());
        let authority = params.self_signed(issuer.key()).unwrap();
        fs::write(at("authority.pem"), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
        fs::write(at("server.pem"), server.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(at("server.key"), key.serialize_pem()).unwrap();
        let mut child = Command::new("python3")
            .args(["-c", SERVER])
            .args([at("server.pem"), at("server.key")])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let address = format!("https://localhost:{port}/");
        Self { child, address, authority: at("authority.pem"), _keys: keys }
    }
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn over_tls_an_export_is_fetched_from_whom_the_given_authority_vouches_for() {
    let (dir, trust) = honest_export();
    let (server, trust) = (ForeignServer::of(dir.path()), trust.to_string());
    let verify = |authority: &Path| {
        let authority = authority.to_str().unwrap();
        exit(&[&server.address, "--trust", &trust, "--ca", authority])
    };
    assert_eq!(verify(&server.authority), ExitCode::SUCCESS);
    let other = ForeignServer::of(dir.path());
    assert_eq!(verify(&other.authority), ExitCode::from(64));
}

#[tokio::test]
async fn what_is_too_long_or_elsewhere_is_not_fetched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![7; 1000]).unwrap();
    let address = serve(dir.path(), true);
    let mut files = HttpFiles::new(&address, None).unwrap();
    let mut out = Vec::new();
    assert_eq!(files.fetch("file", 1000, &mut out).await.unwrap(), Some(1000));
    assert_eq!(out, vec![7; 1000]);
    assert_eq!(files.fetch("none", 1000, &mut Vec::new()).await.unwrap(), None);
    let too_long = files.fetch("file", 999, &mut Vec::new()).await;
    assert!(matches!(too_long, Err(FetchError::TooLong)));
    let moved = files.fetch("moved", 999, &mut Vec::new()).await;
    assert!(matches!(moved, Err(FetchError::Redirection)));
    let broken = files.fetch("broken", 999, &mut Vec::new()).await;
    assert!(matches!(broken, Err(FetchError::Status(500))));
    for bad in ["", "ftp://a/", "http://", "http://a@b/", "http://a/?x", "https://a/"] {
        assert!(HttpFiles::new(bad, None).is_err(), "{bad}");
    }
    let mut nobody = HttpFiles::new("http://127.0.0.1:1/", None).unwrap();
    let refused = nobody.fetch("file", 1, &mut Vec::new()).await;
    assert!(matches!(refused, Err(FetchError::Unreachable(_))));
}
