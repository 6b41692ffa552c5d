//! Callers who send too much, too often, too slowly, or nothing at all: each meets its bound, and the
//! others are answered meanwhile.

mod pages;
mod raw;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _};
use tulga::grpc::limits::Limits;

use crate::door::{Running, reason, start};
use raw::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Raw, SETTINGS,
    call_headers, frame, literal, tcp_from,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// How long the tests wait for what must come at once.
const SOON: Duration = Duration::from_secs(30);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A client without a certificate at this address of the machine.
async fn client(to: &Running, from: IpAddr) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(to.authority.certificate_pem()))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", to.address)).unwrap();
    endpoint.tls_config(tls).unwrap().local_address(Some(from)).connect().await
}

async fn check(channel: &Channel) -> Result<(), Status> {
    let mut health = HealthClient::new(channel.clone());
    timeout(SOON, health.check(HealthCheckRequest::default())).await.expect("no answer").map(drop)
}

/// Somebody else is answered.
async fn serves_others(running: &Running) {
    let other = timeout(SOON, client(running, THERE)).await.expect("no connection").unwrap();
    check(&other).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut() {
    let limits = Limits { handshake_max: Duration::from_millis(200), ..Limits::default() };
    let running = start(limits).await;
    // Nothing at all, and the beginning of a TLS record, byte by byte.
    for trickle in [&[][..], &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01]] {
        let mut tcp = TcpStream::connect(running.address).await.unwrap();
        for byte in trickle {
            tcp.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = timeout(SOON, tcp.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "the handshake was waited for");
    }
}

#[tokio::test]
async fn a_connection_without_a_call_is_cut_whatever_else_it_sends() {
    let first_call_max = Duration::from_millis(1_500);
    let running = start(Limits { first_call_max, ..Limits::default() }).await;
    let begun = Instant::now();
    let mut silent = Raw::connect(&running).await;
    let mut slow = Raw::connect(&running).await;
    let mut pinging = Raw::greeted(&running).await;
    let mut half = Raw::greeted(&running).await;
    let headers = call_headers(CHECK);
    assert!(half.send(&frame(HEADERS, 0, 1, &headers[..10])).await);
    let trickling = async {
        for byte in &PREFACE[..20] {
            slow.send(&[*byte]).await;
            pinging.send(&frame(PING, 0, 0, &[0; 8])).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        slow.until_closed().await;
        pinging.until_closed().await;
    };
    let all = async {
        tokio::join!(silent.until_closed(), trickling, half.until_closed());
    };
    timeout(SOON, Box::pin(all)).await.expect("a connection was kept");
    assert!(begun.elapsed() >= first_call_max);

    // One that has called stays, though it calls no more.
    let mut caller = Raw::greeted(&running).await;
    let stream = frame(HEADERS, END_HEADERS, 1, &call_headers(WATCH));
    let request = frame(DATA, raw::END_STREAM, 1, &[0; 5]);
    assert!(caller.send(&stream).await && caller.send(&request).await);
    assert!(timeout(SOON, caller.frame_of(HEADERS)).await.unwrap().is_some());
    tokio::time::sleep(first_call_max * 2).await;
    assert!(caller.send(&frame(PING, 0, 0, b"whothere")).await);
    loop {
        let (flags, _, payload) = timeout(SOON, caller.frame_of(PING)).await.unwrap().unwrap();
        if (flags, payload.as_slice()) == (1, b"whothere") {
            break;
        }
    }
}

#[tokio::test]
async fn a_caller_who_answers_no_ping_is_cut() {
    let running = start(Limits {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut caller = Raw::greeted(&running).await;
    assert!(caller.send(&frame(HEADERS, END_HEADERS, 1, &call_headers(WATCH))).await);
    timeout(SOON, caller.until_closed()).await.expect("the connection was kept");
}

#[tokio::test]
async fn an_old_connection_is_closed_with_what_is_under_way_on_it() {
    let running = start(Limits {
        connection_age_max: Duration::from_millis(300),
        connection_grace: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let channel = client(&running, HERE).await.unwrap();
    let watch = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await;
    let mut watched = watch.unwrap().into_inner();
    let ended = async { while let Ok(Some(_)) = watched.message().await {} };
    timeout(SOON, ended).await.expect("the stream outlived its connection's age");
    check(&channel).await.unwrap();
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let running =
        start(Limits { connections_max: 4, connections_per_address_max: 2, ..Limits::default() })
            .await;
    let first = client(&running, HERE).await.unwrap();
    let _second = Raw::greeted(&running).await;
    for _ in 0..10 {
        let mut third = tcp_from(HERE, running.address).await;
        let closed = timeout(SOON, third.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a third connection was taken");
    }
    serves_others(&running).await;
    check(&first).await.unwrap();
    // A place that was given back can be taken again.
    drop(first);
    let again = async {
        while client(&running, HERE).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, again).await.expect("the place was not given back");
}

#[tokio::test]
async fn further_connections_wait_until_one_ends() {
    let running = start(Limits { connections_max: 1, ..Limits::default() }).await;
    let first = Raw::greeted(&running).await;
    let waiting = client(&running, THERE);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), waiting.as_mut()).await.is_err());
    drop(first);
    let second = timeout(SOON, waiting).await.expect("nobody came in").unwrap();
    check(&second).await.unwrap();
}

#[tokio::test]
async fn an_address_that_calls_too_often_is_told_to_wait_and_others_are_not() {
    let calls_per_address_per_second = NonZeroU32::new(5).unwrap();
    let running = start(Limits { calls_per_address_per_second, ..Limits::default() }).await;
    let eager = client(&running, HERE).await.unwrap();
    let mut refused = Vec::new();
    for _ in 0..50 {
        refused.extend(check(&eager).await.err());
    }
    assert!((20..=45).contains(&refused.len()), "{} of 50 were refused", refused.len());
    for status in &refused {
        let told = (status.code(), reason(status));
        assert_eq!(told, (Code::ResourceExhausted, "LIM_RATE".to_owned()));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    serves_others(&running).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    check(&eager).await.unwrap();
}

#[tokio::test]
async fn a_call_beyond_the_streams_of_a_connection_is_refused() {
    let running = start(Limits { streams_max: 3, ..Limits::default() }).await;
    let mut caller = Raw::greeted(&running).await;
    for stream in [1, 3, 5, 7] {
        // Calls whose bodies never come.
        assert!(caller.send(&frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK))).await);
    }
    let refused = timeout(SOON, caller.frame_of(RST_STREAM)).await.unwrap();
    let (_, stream, code) = refused.expect("the connection goes on");
    assert_eq!((stream, code), (7, 7_u32.to_be_bytes().to_vec()), "REFUSED_STREAM");
}

#[tokio::test]
async fn a_body_that_trickles_meets_the_deadline() {
    let call_max = Duration::from_millis(400);
    let running = start(Limits { call_max, ..Limits::default() }).await;
    let mut channel = client(&running, HERE).await.unwrap();
    // A message of 100 bytes, one every 50 ms.
    let bytes = [vec![0, 0, 0, 0, 100], vec![0; 100]].concat();
    let trickle = tokio_stream::iter(bytes)
        .throttle(Duration::from_millis(50))
        .map(|byte| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte]))));
    let request = http::Request::post(CHECK)
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(StreamBody::new(trickle)))
        .unwrap();
    let begun = Instant::now();
    let answer = timeout(SOON, channel.ready().await.unwrap().call(request)).await;
    let answer = answer.expect("the body was waited for").unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "SYS_DEADLINE"));
    assert!(begun.elapsed() >= call_max && begun.elapsed() < call_max * 4);
}

#[tokio::test]
async fn headers_that_go_on_for_ever_end_the_connection() {
    let running = start(Limits::default()).await;
    let mut caller = Raw::greeted(&running).await;
    assert!(caller.send(&frame(HEADERS, 0, 1, &call_headers(CHECK))).await);
    let field = literal("x-padding", &"x".repeat(100));
    let more: Vec<u8> = std::iter::repeat_n(field, 100).flatten().collect();
    let more = frame(CONTINUATION, 0, 1, &more);
    // 16 KiB of headers may come; 1 MiB must not be taken.
    let mut sent = 0;
    let flooding = async {
        while sent < 1 << 20 && caller.send(&more).await {
            sent += more.len();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        caller.until_closed().await;
    };
    timeout(SOON, flooding).await.expect("the connection was kept");
    assert!(sent < 1 << 20, "{sent} bytes of headers were taken");
    serves_others(&running).await;
}

#[tokio::test]
async fn calls_that_are_reset_as_soon_as_they_are_made_end_the_connection() {
    let running = start(Limits::default()).await;
    let mut caller = Raw::greeted(&running).await;
    let mut burst = Vec::new();
    for stream in (1..2_000).step_by(2) {
        burst.extend(frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK)));
        // CANCEL
        burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // The server may have hung up before all of it was written.
    let _all = caller.send(&burst).await;
    let end = timeout(SOON, caller.frame_of(GOAWAY)).await.expect("the connection was kept");
    if let Some((_, _, payload)) = end {
        // ENHANCE_YOUR_CALM
        assert_eq!(payload[4..8], 11_u32.to_be_bytes());
    }
    serves_others(&running).await;
}

/// Answers to pings and settings pile up when nobody reads them: the server must stop reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_whose_answers_nobody_reads_is_not_read_for_ever() {
    const MUCH: usize = 256 << 20;
    let running = start(Limits::default()).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut caller = Raw::greeted(&running).await;
        let flooding = tokio::spawn(async move { caller.flood(&flood.repeat(1_000), MUCH).await });
        serves_others(&running).await;
        let sent = timeout(SOON * 4, flooding).await.expect("the flood goes on").unwrap();
        assert!(sent < MUCH, "{sent} bytes were read and their answers kept");
    }
    serves_others(&running).await;
}
