//! The same for the HTTP server of a witness.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tulga::web::server::{Answer, Bounds, Call, Pages, serve};

use super::raw::tcp_from;
use super::{HERE, SOON, THERE};

const GET: &str = "GET / HTTP/1.1\r\nhost: w\r\n\r\n";

/// Answers what was sent, and at `/long` more than a socket holds.
struct Echo;

#[async_trait]
impl Pages for Echo {
    async fn answer(&self, call: Call) -> Answer {
        match call.path.as_str() {
            "/long" => Answer::text(StatusCode::OK, "x".repeat(64 << 20)),
            _ => Answer::text(StatusCode::OK, format!("{} bytes", call.body.len())),
        }
    }
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn bounds() -> Bounds {
    Bounds {
        connections_max: 8,
        connections_per_address_max: 4,
        requests_per_second_max: number(1_000),
        requests_per_address_per_second_max: number(1_000),
        behind_proxy: false,
        body_bytes_max: 1_000,
        headers_max: Duration::from_secs(1),
        call_max: Duration::from_secs(1),
        connection_age_max: Duration::from_mins(1),
        drain_max: Duration::from_secs(1),
    }
}

async fn start(bounds: Bounds) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(Echo), bounds, std::future::pending()));
    address
}

/// All that the server says to these bytes until it is silent for a while, or ends the connection.
async fn told(to: SocketAddr, from: IpAddr, bytes: &str) -> String {
    let mut tcp = tcp_from(from, to).await;
    // It may be closed already.
    if tcp.write_all(bytes.as_bytes()).await.is_err() {
        return String::new();
    }
    said(&mut tcp).await
}

async fn said(tcp: &mut TcpStream) -> String {
    let (mut said, mut bytes) = (Vec::new(), [0; 1 << 12]);
    let mut patience = SOON;
    while let Ok(Ok(length)) = timeout(patience, tcp.read(&mut bytes)).await
        && length > 0
    {
        said.extend_from_slice(&bytes[..length]);
        patience = Duration::from_millis(300);
    }
    String::from_utf8(said).unwrap()
}

/// The first line of the answer to a plain request.
async fn line(to: SocketAddr, from: IpAddr) -> String {
    told(to, from, GET).await.lines().next().unwrap_or_default().to_owned()
}

const OK: &str = "HTTP/1.1 200 OK";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests";

/// Waits until the server ends the connection.
async fn is_closed(tcp: &mut TcpStream) -> bool {
    let mut bytes = [0; 1 << 12];
    let closed = async { while tcp.read(&mut bytes).await.is_ok_and(|length| length > 0) {} };
    timeout(SOON, closed).await.is_ok()
}

#[tokio::test]
async fn slow_headers_slow_bodies_and_idle_connections_are_not_waited_for() {
    let address = start(bounds()).await;
    let begun = Instant::now();
    let beginnings = ["", "GET / HTTP/1.1\r\nhost: w\r\nx-slow: ", GET];
    for beginning in beginnings {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(beginning.as_bytes()).await.unwrap();
        assert!(is_closed(&mut tcp).await, "{beginning:?} and then nothing was waited for");
    }
    assert!(begun.elapsed() > bounds().headers_max);
    let slow = "POST / HTTP/1.1\r\nhost: w\r\ncontent-length: 100\r\n\r\n1";
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(slow.as_bytes()).await.unwrap();
    tokio::time::sleep(bounds().call_max).await;
    let answer = said(&mut tcp).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn long_headers_and_long_bodies_are_refused() {
    let address = start(bounds()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: w\r\nx-long: {}\r\n\r\n", "x".repeat(32 << 10));
    let answer = told(address, HERE, &long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let post = |length: usize| {
        let body = "x".repeat(length);
        format!("POST / HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    assert!(told(address, HERE, &post(1_000)).await.contains("1000 bytes"));
    let answer = told(address, HERE, &post(1_001)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(line(address, HERE).await, OK);
}

#[tokio::test]
async fn one_caller_cannot_use_up_what_all_may_ask() {
    let slow = Bounds {
        requests_per_second_max: number(20),
        requests_per_address_per_second_max: number(3),
        ..bounds()
    };
    let address = start(slow).await;
    let answers = told(address, HERE, &GET.repeat(200)).await;
    let (served, refused) = (answers.matches(OK).count(), answers.matches(TOO_MANY).count());
    assert!((3..10).contains(&served), "{served} were answered");
    assert_eq!(served + refused, 200);
    assert_eq!(line(address, THERE).await, OK, "another caller has their own");
}

#[tokio::test]
async fn all_callers_together_have_a_bound() {
    let slow = Bounds { requests_per_second_max: number(3), ..bounds() };
    let address = start(slow).await;
    let answers = told(address, HERE, &GET.repeat(100)).await;
    assert!(answers.matches(TOO_MANY).count() > 80);
}

#[tokio::test]
async fn one_caller_cannot_take_every_connection() {
    let address = start(bounds()).await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(TcpStream::connect(address).await.unwrap());
    }
    for _ in 0..8 {
        assert_eq!(told(address, HERE, GET).await, "", "a fifth connection was taken");
    }
    assert_eq!(line(address, THERE).await, OK);
    drop(kept);
    let again = async {
        while line(address, HERE).await != OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, again).await.expect("the places were not given back");
}

#[tokio::test]
async fn behind_a_proxy_the_named_caller_counts() {
    let proxied = Bounds {
        requests_per_address_per_second_max: number(3),
        connections_per_address_max: 1,
        behind_proxy: true,
        ..bounds()
    };
    let address = start(proxied).await;
    let by =
        |caller: &str| format!("GET / HTTP/1.1\r\nhost: w\r\nx-forwarded-for: {caller}\r\n\r\n");
    let _other = TcpStream::connect(address).await.unwrap();
    let answers = told(address, HERE, &by("192.0.2.1").repeat(100)).await;
    assert!(answers.matches(TOO_MANY).count() > 80, "{answers}");
    // What the caller says of themselves stands first and does not help.
    let lying = told(address, HERE, &by("192.0.2.9, 192.0.2.1").repeat(100)).await;
    assert!(lying.matches(TOO_MANY).count() > 80, "{lying}");
    assert!(told(address, HERE, &by("192.0.2.2")).await.starts_with(OK));
}

#[tokio::test]
async fn a_caller_who_does_not_read_the_answer_is_cut() {
    let one =
        Bounds { connections_max: 1, connection_age_max: Duration::from_millis(300), ..bounds() };
    let address = start(one).await;
    let mut deaf = tcp_from(HERE, address).await;
    deaf.write_all(b"GET /long HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    let next = async {
        let mut tcp = tcp_from(THERE, address).await;
        tcp.write_all(GET.as_bytes()).await.unwrap();
        let mut bytes = [0; 15];
        tcp.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, OK.as_bytes());
    };
    timeout(SOON, next).await.expect("the only connection is kept for nobody");
}
