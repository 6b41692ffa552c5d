//! Sends verifications and notes how long each took and what came of it.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::super::client::reason_of;
use super::super::verify::Visit;
use super::gateway::Target;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::time::UnixMillis;
use crate::proto::verification_service_client::VerificationServiceClient;
use crate::proto::{Decision, GetDecisionRequest, Outcome, Transaction};
use crate::receipt;

/// What is sent before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// When verifications begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrivals {
    /// When the terminal's last one has ended.
    Closed,
    /// So many times a second, evenly, whatever became of those before.
    Rate(u32),
}

/// What is sent, how, and for how long.
pub(super) struct Load {
    pub arrivals: Arrivals,
    pub clients: usize,
    pub duration: Duration,
    pub deadline: Duration,
    pub picture: Bytes,
}

/// What came of the verifications that counted.
#[derive(Default)]
pub(super) struct Seen {
    /// Whole verifications that were approved in time: challenge, capture, decision. From when they
    /// should have begun.
    pub approved: Vec<Duration>,
    /// Their `Verify` alone.
    pub verify: Vec<Duration>,
    /// How many ended otherwise, by reason.
    pub others: BTreeMap<String, u64>,
    /// What terminals were told to wait before they came again, added up; not in the others' times.
    pub told: Duration,
    /// Approvals that were made after the terminal's deadline, seen by it or not: there must be none.
    pub approved_late: u64,
    /// From the first that counted to the last answer, or to the end where terminals wait.
    pub elapsed: Duration,
}

/// One verification.
struct Ended {
    counts: bool,
    took: Duration,
    verify: Duration,
    /// That it was approved, or what came of it instead.
    result: Result<(), String>,
    /// How long the terminal was told to wait before it comes again.
    told: Option<Duration>,
    /// Where the terminal waited no longer.
    unanswered: Option<Unanswered>,
}

impl Ended {
    /// Notes a refusal.
    fn refused(&mut self, status: &Status) {
        self.result = Err(reason_of(status));
        self.told = status.get_details_retry_info().and_then(|info| info.retry_delay);
    }
}

/// A verification whose answer did not come in time.
struct Unanswered {
    terminal: Channel,
    asks: GetDecisionRequest,
    /// Nothing may be approved after it, by this machine's clock.
    deadline: UnixMillis,
}

impl Load {
    /// Runs it; a bar shows how far it is.
    pub async fn run(&self, target: &Target, show: bool) -> Result<Seen> {
        let bar =
            if show { ProgressBar::new(self.duration.as_secs()) } else { ProgressBar::hidden() };
        let mut terminals = Vec::with_capacity(self.clients);
        for number in 1..=self.clients {
            terminals.push(target.terminal(number).await?);
        }
        let (ended, mut ends) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let sender = Sender {
            card: target.card.clone(),
            day: SystemClock.now().rfc3339().chars().take(10).collect(),
            run: SystemClock.now().get(),
            next: Arc::new(AtomicU64::new(0)),
            picture: self.picture.clone(),
            deadline: self.deadline,
            counts_from: begun + WARM_UP,
            ended,
        };
        let until = begun + WARM_UP + self.duration;
        let sending = match self.arrivals {
            Arrivals::Closed => tokio::spawn(one_by_one(sender, terminals, until)),
            Arrivals::Rate(rate) => tokio::spawn(evenly(sender, terminals, rate, until)),
        };
        let mut seen = Seen::default();
        let mut unanswered = Vec::new();
        while let Some(mut end) = ends.recv().await {
            bar.set_position((begun.elapsed().saturating_sub(WARM_UP)).as_secs());
            unanswered.extend(end.unanswered.take());
            if end.counts {
                seen.note(end);
            }
        }
        sending.await?;
        seen.elapsed = begun.elapsed().saturating_sub(WARM_UP);
        bar.finish_and_clear();
        for asked in unanswered {
            seen.approved_late += u64::from(asked.was_approved_late().await?);
        }
        Ok(seen)
    }
}

impl Seen {
    fn note(&mut self, ended: Ended) {
        let Ended { took, verify, result, told, .. } = ended;
        self.told += told.unwrap_or_default();
        let reason = match result {
            Ok(()) => {
                self.approved.push(took);
                self.verify.push(verify);
                return;
            }
            Err(reason) => reason,
        };
        *self.others.entry(reason).or_default() += 1;
    }
}

impl Unanswered {
    /// Asks the gateway what it decided after all.
    async fn was_approved_late(self) -> Result<bool> {
        let Self { terminal, asks, deadline } = self;
        let Ok(decision) = VerificationServiceClient::new(terminal).get_decision(asks).await else {
            return Ok(false);
        };
        let decision = decision.into_inner();
        let receipt = receipt::parse(std::str::from_utf8(&decision.receipt_jws)?)?;
        let made_at = UnixMillis::parse_rfc3339(&receipt.unverified_body().time)?;
        Ok(decision.outcome() == Outcome::Approved && made_at > deadline)
    }
}

/// Each terminal begins again as soon as it is answered, or where it was told to wait, then. Who is refused
/// together comes again together.
async fn one_by_one(sender: Sender, terminals: Vec<Channel>, until: Instant) {
    let mut clients = JoinSet::new();
    for terminal in terminals {
        let sender = sender.clone();
        clients.spawn(async move {
            while Instant::now() < until {
                if let Some(told) = sender.send(terminal.clone(), Instant::now()).await {
                    sleep(told.min(until.saturating_duration_since(Instant::now()))).await;
                }
            }
        });
    }
    drop(sender);
    while clients.join_next().await.is_some() {}
}

/// One begins at each of evenly spaced moments, at the next terminal in turn.
async fn evenly(sender: Sender, terminals: Vec<Channel>, rate: u32, until: Instant) {
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for (place, terminal) in (0u32..).zip(terminals.iter().cycle()) {
        let due = begun + Duration::from_secs(1) * place / rate;
        if due >= until {
            break;
        }
        sleep_until(due).await;
        let (sender, terminal) = (sender.clone(), terminal.clone());
        under_way.spawn(async move { sender.send(terminal, due).await });
        while under_way.try_join_next().is_some() {}
    }
    drop(sender);
    while under_way.join_next().await.is_some() {}
}

/// An approval, or else the outcome and its reasons.
fn approval(decision: &Decision) -> Result<(), String> {
    if decision.outcome() == Outcome::Approved {
        return Ok(());
    }
    let reasons = decision.reasons.iter().map(|reason| reason.code.as_str());
    let words: Vec<&str> = iter::once(decision.outcome().as_str_name()).chain(reasons).collect();
    Err(words.join(" "))
}

#[derive(Clone)]
struct Sender {
    card: String,
    day: String,
    run: i64,
    next: Arc<AtomicU64>,
    picture: Bytes,
    deadline: Duration,
    counts_from: Instant,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Sender {
    /// One verification that should have begun at `due`; how long the terminal was told to wait then.
    async fn send(&self, terminal: Channel, due: Instant) -> Option<Duration> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("BENCH-{}-{number}", self.run);
        let visit = Visit::withdrawal(&self.card, id, self.day.clone(), 100, "KZT");
        let mut ended = Ended {
            counts: due >= self.counts_from,
            took: Duration::ZERO,
            verify: Duration::ZERO,
            result: Err(String::new()),
            told: None,
            unanswered: None,
        };
        match visit.begin(terminal.clone()).await {
            Err(status) => ended.refused(&status),
            Ok(challenge) => self.verify(&visit, terminal, challenge, &mut ended).await,
        }
        ended.took = due.elapsed();
        let told = ended.told;
        // Nobody counts any more when the bench was given up.
        drop(self.ended.send(ended));
        told
    }

    async fn verify(
        &self,
        visit: &Visit,
        terminal: Channel,
        challenge: Vec<u8>,
        ended: &mut Ended,
    ) {
        let (asked, asked_at) = (Instant::now(), SystemClock.now());
        let mut request = Request::new(visit.capture(challenge, 1, self.picture.clone()));
        request.set_timeout(self.deadline);
        let answer = VerificationServiceClient::new(terminal.clone()).verify(request).await;
        ended.verify = asked.elapsed();
        match answer {
            Ok(decision) => ended.result = approval(&decision.into_inner()),
            Err(status) => {
                if ended.verify >= self.deadline {
                    let Transaction { host_transaction_id, business_date, .. } =
                        visit.transaction.clone();
                    let (attempt, language) = (1, visit.language.clone());
                    let asks = GetDecisionRequest {
                        business_date,
                        host_transaction_id,
                        attempt,
                        language,
                    };
                    let wait = i64::try_from(self.deadline.as_millis()).unwrap_or(i64::MAX);
                    let deadline = asked_at.plus_millis(wait);
                    ended.unanswered = Some(Unanswered { terminal, asks, deadline });
                }
                ended.refused(&status);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::body::Body;
    use tonic::server::NamedService;
    use tonic::transport::{Endpoint, Server};
    use tower::Service;

    use super::*;
    use crate::grpc::status;
    use crate::proto::verification_service_server::SERVICE_NAME;

    /// A gateway that has no room, and when it was asked.
    #[derive(Clone, Default)]
    struct Full(Arc<Mutex<Vec<Instant>>>);

    impl NamedService for Full {
        const NAME: &'static str = SERVICE_NAME;
    }

    impl Service<http::Request<Body>> for Full {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            self.0.lock().unwrap().push(Instant::now());
            ready(Ok(status::of("SYS_OVERLOADED").into_http()))
        }
    }

    /// A terminal of such a gateway.
    async fn terminal_of(gateway: Full) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(gateway);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    #[tokio::test]
    async fn a_terminal_that_is_refused_comes_again_when_it_was_told_to() {
        let gateway = Full::default();
        let terminal = terminal_of(gateway.clone()).await;
        let told =
            status::of("SYS_OVERLOADED").get_details_retry_info().unwrap().retry_delay.unwrap();
        let (ended, mut ends) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let sender = Sender {
            card: "card-token-1".into(),
            day: "2026-01-01".into(),
            run: 1,
            next: Arc::default(),
            picture: Bytes::new(),
            deadline: Duration::from_secs(5),
            counts_from: begun,
            ended,
        };
        one_by_one(sender, vec![terminal], begun + 4 * told).await;
        let mut seen = Seen::default();
        while let Some(end) = ends.recv().await {
            seen.note(end);
        }
        let asked = gateway.0.lock().unwrap();
        assert!(asked.len() > 1, "it does not come again");
        assert!(asked.windows(2).all(|two| two[1] - two[0] >= told), "it comes too early");
        let times = u32::try_from(asked.len()).unwrap();
        assert_eq!(seen.others, BTreeMap::from([("SYS_OVERLOADED".into(), times.into())]));
        assert_eq!(seen.told, told * times);
    }
}
