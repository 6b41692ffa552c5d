//! Kill −9 in a burst of verifications: every receipt that a client holds is in the ledger.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tulga::app::{DataDir, trust_fingerprint};
use tulga::audit::{Options, find_receipt, verify_export};
use tulga::capture::{DecodedImage, encode_png};
use tulga::domain::id::PrincipalName;
use tulga::pki::Role;
use tulga::proto::verification_service_client::VerificationServiceClient;
use tulga::proto::{self, customer_reference::Reference};

const KILLS: u32 = 20;
const CLIENTS: u32 = 4;
const TERMINAL: &str = "ATM-CRASH";

/// Index to exact bytes of every receipt that came back.
type Held = Arc<Mutex<BTreeMap<u64, String>>>;

#[test]
fn every_receipt_that_a_client_holds_survives_twenty_kills() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let held = Held::default();
    let mut gateway = home.serve();
    home.tulga(&["terminal", "register", TERMINAL]);
    for kill in 0..KILLS {
        runtime.block_on(async {
            let channel = home.connect().await;
            let burst: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let name = format!("{kill}-{client}");
                    tokio::spawn(verify_until_killed(channel.clone(), name, Arc::clone(&held)))
                })
                .collect();
            let before = held.lock().unwrap().len();
            let until = Instant::now() + Duration::from_secs(20);
            while held.lock().unwrap().len() < before + 3 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(u64::from(kill * 7 % 40))).await;
            gateway.kill();
            for client in burst {
                client.await.unwrap();
            }
        });
        gateway = home.serve();
    }
    let export = home.dir.path().join("export");
    home.tulga(&["audit", "export", export.to_str().unwrap()]);
    let held = held.lock().unwrap();
    assert!(held.len() >= usize::try_from(3 * KILLS).unwrap(), "only {} receipts", held.len());
    for (index, jws) in &*held {
        assert_eq!(find_receipt(&export, *index).unwrap().as_ref(), Some(jws), "receipt {index}");
    }
    let trust = trust_fingerprint(&home.data()).unwrap();
    let report = verify_export(&export, Some(&trust), &Options::default(), &mut |_| ()).unwrap();
    assert!(report.is_good(), "{:?}", report.findings);
}

async fn verify_until_killed(channel: Channel, name: String, held: Held) {
    let picture = DecodedImage::from_rgb(160, 120, vec![120; 160 * 120 * 3]).unwrap();
    let image = encode_png(&picture).unwrap();
    let mut client = VerificationServiceClient::new(channel);
    for number in 0..1000 {
        let question = proto::BeginCaptureRequest {
            customer: Some(proto::CustomerReference {
                reference: Some(Reference::CardToken("nobody".to_owned())),
            }),
            transaction: Some(proto::Transaction {
                host_transaction_id: format!("{name}-{number}"),
                business_date: "2026-11-21".to_owned(),
                operation: proto::Operation::Withdrawal.into(),
                amount_minor: 1000,
                currency: "KZT".to_owned(),
                account_currency: "KZT".to_owned(),
                account: "account".to_owned(),
                counterparty: None,
            }),
            modality: proto::Modality::Face.into(),
            finger_position: 0,
            holder_verification: proto::HolderVerification::None.into(),
            language: "en".to_owned(),
        };
        let Ok(begun) = client.begin_capture(question).await else { return };
        let verify = proto::VerifyRequest {
            challenge: begun.into_inner().challenge,
            host_transaction_id: format!("{name}-{number}"),
            business_date: "2026-11-21".to_owned(),
            attempt: 1,
            capture: Some(proto::Capture { image: image.clone().into(), ..Default::default() }),
            language: "en".to_owned(),
        };
        let Ok(decided) = client.verify(verify).await else { return };
        let decided = decided.into_inner();
        let jws = String::from_utf8(decided.receipt_jws).unwrap();
        held.lock().unwrap().insert(decided.position.unwrap().index, jws);
    }
}

/// A data folder and a port of its own.
struct Home {
    dir: tempfile::TempDir,
    address: SocketAddr,
}

/// A gateway that does not outlive its test.
struct Gateway(Child);

impl Gateway {
    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have been killed before.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Free now; nobody else asks for it in this test's few seconds.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let config = format!(
            "[server]\nlisten = \"{address}\"\n[paths]\ndata_dir = \"{}\"\nmodels_dir = \"{}\"\n\
             [rate]\nper_terminal_per_minute = 1000000\n",
            dir.path().join("data").display(),
            models.display(),
        );
        std::fs::write(dir.path().join("tulga.toml"), config).unwrap();
        Self { dir, address }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("tulga.toml")
    }

    fn data(&self) -> DataDir {
        DataDir::at(self.dir.path().join("data"))
    }

    /// Starts the gateway and waits until it listens.
    fn serve(&self) -> Gateway {
        let child = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .arg("--config")
            .arg(self.config())
            .arg("serve")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Gateway(child);
        let until = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < until, "the gateway does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    fn tulga(&self, arguments: &[&str]) {
        let status = Command::new(env!("CARGO_BIN_EXE_tulga"))
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "tulga {arguments:?}");
    }

    async fn connect(&self) -> Channel {
        let (pki, name) = (self.data().pki(), PrincipalName::try_from(TERMINAL).unwrap());
        let certificate = pki.read_certificate(&pki.client_path(Role::Terminal, &name)).unwrap();
        let key = pki.read_key(&pki.client_key_path(Role::Terminal, &name)).unwrap();
        let authority = pki.read_certificate(&pki.authority_path()).unwrap();
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(authority))
            .identity(Identity::from_pem(certificate, key.as_str()));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}
