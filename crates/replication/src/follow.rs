//! A node follows the log: one connection on which lines come, one on which it says what it has done.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use nearside_config::{Follows, Upstream};
use nearside_diagnostics::WatchedTasks;
use nearside_protocol::{Member, Order};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{At, BEAT_PATH, Beat, Done, FOLLOW_PATH, Hello, Line, Position, Totals};

/// Longer takes neither a connection nor an answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Lines come once a second at least; after so long without one the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A node says that it lives this often.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Before it is tried again: at first, and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The longest line. An order has a thousand targets at most.
const LINE_BYTES_MAX: usize = 16 << 20;
/// What has been done and not been said yet; more is not remembered, but the place says it too.
const DONE_MAX: usize = 10_000;

/// What an order met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Stored variants, and answers on their way.
    pub matched: u64,
    /// Fills that store nothing because of it.
    pub fenced_fills: u64,
}

/// A node that can be told to purge.
pub trait Applier: Send + Sync + 'static {
    /// Applies an order, or counts what it would meet; nothing if that has failed, and is to be tried again.
    fn apply(&self, order: &Order) -> impl Future<Output = Option<Applied>> + Send;

    /// An order that was accepted at this moment (milliseconds since 1970) has been applied.
    fn applied(&self, accepted_millis: u64);

    /// What this node has done since it was started.
    fn totals(&self) -> Totals;

    /// Makes all stale that is stored, because it is not known what was purged meanwhile; whether that was done.
    fn reset(&self) -> impl Future<Output = bool> + Send;
}

/// Why a connection to the log has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("no answer in time")]
    Silent,
    #[error("refused with status {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the other end speaks something else: {0}")]
    Foreign(String),
    #[error("the connection was closed")]
    Closed,
    #[error("purge {0} could not be applied")]
    Failed(u64),
    #[error("the control process does not know this node any more")]
    Forgotten,
}

/// Follows the log for ever. `instance` is another number for each process; `tasks` notes what fails.
pub async fn follow<A: Applier>(
    tasks: WatchedTasks,
    leader: Follows,
    member: Member,
    instance: u64,
    position: Arc<Position>,
    applier: Arc<A>,
) {
    let (done, doing) = mpsc::channel(DONE_MAX);
    let node = member.id.clone();
    // Which of the control processes is followed: what this node has done is said to the same.
    let followed = Arc::new(AtomicUsize::new(0));
    let (position_of_beats, of_beats) = (Arc::clone(&position), Arc::clone(&followed));
    let beats = Beats {
        applier: Arc::clone(&applier),
        leader: leader.clone(),
        followed: of_beats,
        node,
        instance,
        position: position_of_beats,
        doing,
    };
    tokio::spawn(tasks.clone().watch("reports to the control process", beats.run()));
    let (watched, lag_max) = (Arc::clone(&position), leader.lag_max);
    tokio::spawn(tasks.watch("lag of the purge log", async move { watched.watch(now, lag_max).await }));
    let mut backoff = BACKOFF_MIN;
    let mut said = false;
    loop {
        let began = now();
        let Some(address) = addressed(&leader, &followed) else { return };
        let session = Session {
            leader: &leader,
            address,
            member: &member,
            instance,
            position: &position,
            applier: &*applier,
            done: &done,
        };
        let Err(lost) = session.run().await;
        position.lose(now());
        if !said {
            tracing::warn!(control = %address, error = %lost, "the purge log cannot be followed; trying again");
        }
        // Another one may do.
        followed.fetch_add(1, Ordering::Relaxed);
        // Once it worked for a while, it is news again when it fails.
        said = began.elapsed() < SILENCE_MAX;
        if !said {
            backoff = BACKOFF_MIN;
        }
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// The control process that is followed, or is to be tried next.
fn addressed<'l>(leader: &'l Follows, followed: &AtomicUsize) -> Option<&'l Upstream> {
    let number = followed.load(Ordering::Relaxed);
    leader.addresses.get(number.checked_rem(leader.addresses.len())?)
}

/// Says that a node will not come again, so that nobody waits for it.
pub async fn leave(leader: &Follows, node: &str, instance: u64, position: &Position) {
    let (Some(at), last) = position.place() else { return };
    let (node, totals) = (node.to_owned(), Totals::default());
    let beat = Beat { node, instance, at, last, leaves: true, totals, done: Vec::new() };
    for address in &leader.addresses {
        let said = async {
            let mut sender = connect(address).await?;
            post(&mut sender, address, leader, BEAT_PATH, &beat).await
        };
        match said.await {
            Ok(_) => return,
            Err(error) => tracing::debug!(control = %address, %error, "nobody hears that this node leaves"),
        }
    }
}

/// One connection on which lines come.
struct Session<'s, A> {
    leader: &'s Follows,
    address: &'s Upstream,
    member: &'s Member,
    instance: u64,
    position: &'s Position,
    applier: &'s A,
    done: &'s mpsc::Sender<Done>,
}

impl<A: Applier> Session<'_, A> {
    async fn run(&self) -> Result<std::convert::Infallible, Lost> {
        let (at, last) = self.position.place();
        let hello = Hello { member: self.member.clone(), instance: self.instance, at, last };
        let mut sender = connect(self.address).await?;
        let mut body = post(&mut sender, self.address, self.leader, FOLLOW_PATH, &hello).await?;
        let mut buffer = BytesMut::new();
        loop {
            let frame = tokio::select! {
                frame = timeout(SILENCE_MAX, body.frame()) => frame.map_err(|_elapsed| Lost::Silent)?,
                () = self.position.forgotten.notified() => return Err(Lost::Forgotten),
            };
            let frame = frame.ok_or(Lost::Closed)??;
            let Some(data) = frame.data_ref() else { continue };
            buffer.extend_from_slice(data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                let line = serde_json::from_slice(&line).map_err(|error| Lost::Foreign(error.to_string()))?;
                self.obey(line, hello.at.as_ref()).await?;
            }
            if buffer.len() > LINE_BYTES_MAX {
                return Err(Lost::Foreign("a line without an end".to_owned()));
            }
        }
    }

    async fn obey(&self, line: Line, was: Option<&At>) -> Result<(), Lost> {
        match line {
            Line::Start { at, last, continues } => {
                tracing::info!(control = %self.address, log = at.log, head = at.seq, continues, "following the purge log");
                if continues {
                    self.position.hear(at.seq, now());
                    return Ok(());
                }
                if was.is_some() {
                    tracing::warn!(
                        "the purge log does not reach back to where this node was: all that is stored is stale now"
                    );
                }
                // Before anything is stale: what is asked for from then on needs the new place.
                self.position.expect(&at);
                if !self.applier.reset().await {
                    return Err(Lost::Failed(at.seq));
                }
                self.position.start(&at, last, now());
            }
            Line::Purge(record) => {
                let before = self.position.at().ok_or_else(|| Lost::Foreign("no start".to_owned()))?.seq;
                if record.seq != before + 1 {
                    return Err(Lost::Foreign(format!("purge {} after {before}", record.seq)));
                }
                self.position.hear(record.seq, now());
                let applied = self.applier.apply(&record.order).await.ok_or(Lost::Failed(record.seq))?;
                let Applied { matched, fenced_fills } = applied;
                self.applier.applied(record.at);
                // Before the place says that it was done. If there is no room, only the place does.
                let _ = self.done.try_send(Done { order: record.id.clone(), ticket: None, matched, fenced_fills });
                self.position.advance(record.seq, record.id, now());
            }
            Line::Count { ticket, order } => {
                let Applied { matched, fenced_fills } =
                    self.applier.apply(&Order { dry_run: true, ..order }).await.unwrap_or_default();
                let (order, ticket) = (String::new(), Some(ticket));
                let _ = self.done.try_send(Done { order, ticket, matched, fenced_fills });
            }
            Line::Beat { head } => self.position.hear(head, now()),
        }
        Ok(())
    }
}

/// The connection on which a node says what it has done.
struct Beats<A> {
    applier: Arc<A>,
    leader: Follows,
    /// Which of the control processes is followed.
    followed: Arc<AtomicUsize>,
    node: String,
    instance: u64,
    position: Arc<Position>,
    doing: mpsc::Receiver<Done>,
}

impl<A: Applier> Beats<A> {
    async fn run(mut self) {
        // With the address that it is to.
        let mut sender: Option<(Upstream, SendRequest<Full<Bytes>>)> = None;
        let mut done = Vec::new();
        loop {
            let more = timeout(BEAT_EVERY, self.doing.recv()).await;
            match more {
                Ok(Some(first)) => done.push(first),
                Ok(None) => return,
                Err(_elapsed) => {}
            }
            // Before what has been done is gathered: the place is never ahead of that.
            let (at, last) = self.position.place();
            while let Ok(next) = self.doing.try_recv() {
                done.push(next);
            }
            done.truncate(DONE_MAX);
            let Some(at) = at else { continue };
            let (node, instance) = (self.node.clone(), self.instance);
            let totals = self.applier.totals();
            let beat = Beat { node, instance, at, last, leaves: false, totals, done: std::mem::take(&mut done) };
            if let Err(lost) = self.say(&mut sender, &beat).await {
                if matches!(lost, Lost::Refused { status: StatusCode::CONFLICT, .. }) && self.position.is_connected() {
                    self.position.forgotten.notify_one();
                }
                tracing::debug!(error = %lost, "the control process does not hear this node");
                sender = None;
                done = beat.done;
            }
        }
    }

    async fn say(&self, sender: &mut Option<(Upstream, SendRequest<Full<Bytes>>)>, beat: &Beat) -> Result<(), Lost> {
        let address = addressed(&self.leader, &self.followed).ok_or(Lost::Closed)?;
        let (_, sender) = match sender {
            Some(known) if known.0 == *address && !known.1.is_closed() => known,
            none => none.insert((address.clone(), connect(address).await?)),
        };
        let body = post(sender, address, &self.leader, BEAT_PATH, beat).await?;
        timeout(ANSWER_MAX, body.collect()).await.map_err(|_elapsed| Lost::Silent)??;
        Ok(())
    }
}

pub(crate) async fn connect(address: &Upstream) -> Result<SendRequest<Full<Bytes>>, Lost> {
    let connect = async {
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(Lost::Connect)?;
        socket.set_nodelay(true).map_err(Lost::Connect)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        // It ends with the sender, or with the other end.
        tokio::spawn(connection);
        Ok(sender)
    };
    timeout(ANSWER_MAX, connect).await.map_err(|_elapsed| Lost::Silent)?
}

async fn post<T: serde::Serialize>(
    sender: &mut SendRequest<Full<Bytes>>,
    address: &Upstream,
    leader: &Follows,
    path: &str,
    what: &T,
) -> Result<Incoming, Lost> {
    post_within(ANSWER_MAX, sender, address, leader, path, what).await
}

/// The same with another limit to the time until the head of the answer.
pub(crate) async fn post_within<T: serde::Serialize>(
    within: Duration,
    sender: &mut SendRequest<Full<Bytes>>,
    address: &Upstream,
    leader: &Follows,
    path: &str,
    what: &T,
) -> Result<Incoming, Lost> {
    let body = serde_json::to_vec(what).map_err(|error| Lost::Foreign(error.to_string()))?;
    let mut request =
        Request::post(path).header(header::HOST, address.authority()).header(header::CONTENT_TYPE, "application/json");
    if let Some(secret) = &leader.secret {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", secret.reveal()));
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let answer = async {
        sender.ready().await?;
        sender.send_request(request).await
    };
    let response = timeout(within, answer).await.map_err(|_elapsed| Lost::Silent)??;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let body = timeout(ANSWER_MAX, body.collect()).await.map_err(|_elapsed| Lost::Silent)??.to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem.get("detail").and_then(|detail| detail.as_str()).unwrap_or("no reason given").to_owned();
        return Err(Lost::Refused { status: head.status, detail });
    }
    Ok(body)
}

/// A span that is up to a half longer, so that not all nodes come back at once.
fn jittered(span: Duration) -> Duration {
    let drawn = u32::try_from(ahash::RandomState::new().hash_one(now()) & 0xff).unwrap_or(0);
    span + span / 2 * drawn / 255
}

#[expect(clippy::disallowed_methods, reason = "waits in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that cannot say what it has done.
    struct Broken;

    impl Applier for Broken {
        async fn apply(&self, _: &Order) -> Option<Applied> {
            None
        }

        fn applied(&self, _: u64) {}

        fn totals(&self) -> Totals {
            panic!("on purpose")
        }

        async fn reset(&self) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_beside_the_log_is_noted() {
        let tasks = WatchedTasks::default();
        let position = Arc::new(Position::new(now()));
        position.start(&At { log: "l".to_owned(), seq: 1 }, String::new(), now());
        let leader =
            Follows { addresses: vec!["http://127.0.0.1:9".parse().unwrap()], secret: None, lag_max: Follows::LAG_MAX };
        let (id, role, version) = ("a".to_owned(), "edge".to_owned(), String::new());
        let (city, place, reach, admin) = (None, None, None, None);
        let member = Member { id, role, city, version, sites: Vec::new(), place, reach, admin };
        let following = tokio::spawn(follow(tasks.clone(), leader, member, 1, position, Arc::new(Broken)));
        let noted = async {
            while tasks.failed().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), noted).await.expect("a node goes on as if nothing had happened");
        assert_eq!(tasks.failed(), Some("reports to the control process"));
        following.abort();
    }
}
