//! Streams that are read for as long as this process runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::{Config, Info, Stream};
use futures_util::StreamExt;
use nearside_protocol::Member;
use nearside_replication::Record;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Written;
use crate::known::{Known, instant};

/// So often it is looked whether a stream is still there and has been read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So often it is seen that the end of a stream does not come, before it is taken to be gone.
const LOOKS_MAX: u32 = 3;
/// After so long without touch it is not known any more what is in a stream.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a stream is not read any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Nats(String),
    #[error("the connection was made anew")]
    Reconnected,
    #[error("it is another stream of this name")]
    Recreated,
    #[error("it was set back")]
    SetBack,
}

fn nats<E: std::error::Error>(error: E) -> Lost {
    Lost::Nats(error.to_string())
}

/// What becomes of what is read.
pub(super) trait Reader: Send + Sync + 'static {
    /// A stream is read from now on: the first number that is wanted.
    fn begins(&self, name: &str, info: &Info) -> u64;
    /// The next message.
    fn takes(&self, name: &str, seq: u64, subject: &str, payload: &[u8]) -> Result<(), Lost>;
    /// All up to a number, and maybe more, has been read.
    fn has_read(&self, name: &str, last: u64);
    /// The last number that was read.
    fn last(&self) -> u64;
    /// It is not read for a moment.
    fn pauses(&self);
    /// It is not known what is in the stream.
    fn loses(&self);
}

/// The name of a stream: another one of the same name has another.
pub(super) fn name_of(info: &Info) -> String {
    format!("n{:x}", info.created.unix_timestamp_nanos())
}

/// Reads a stream for ever; makes it if it is not there.
pub(super) async fn read<R: Reader>(context: &Context, connected: watch::Receiver<()>, config: Config, reader: &R) {
    let mut touched = instant();
    let mut said = false;
    loop {
        let Err(lost) = follow(context, connected.clone(), &config, reader, &mut touched, &mut said).await;
        reader.pauses();
        if instant().saturating_duration_since(touched) >= SILENCE_MAX {
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(stream = config.name, error = %lost, "a stream cannot be read; trying again");
            }
            reader.loses();
        }
        sleep(PAUSE).await;
    }
}

/// A stream, which is made if it is not there, with these limits.
pub(super) async fn limited(context: &Context, config: &Config) -> Result<(), Lost> {
    let stream = context.get_or_create_stream(config.clone()).await.map_err(nats)?;
    let there = &stream.cached_info().config;
    let (max_messages, max_age, num_replicas) = (config.max_messages, config.max_age, config.num_replicas);
    let wanted = Config { max_messages, max_age, num_replicas, ..there.clone() };
    if wanted != *there
        && let Err(error) = context.update_stream(&wanted).await
    {
        tracing::warn!(stream = config.name, %error, "the stream keeps the limits that it has");
    }
    Ok(())
}

/// What there is to know of a stream, from the server that decides.
pub(super) async fn info<I>(stream: &Stream<I>) -> Result<Info, Lost> {
    let info = stream.get_info().await.map_err(nats)?;
    // Without a leader any of them answers, also one that is behind.
    if info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_none()) {
        return Err(Lost::Nats("the stream has no leader for now".to_owned()));
    }
    Ok(info)
}

async fn follow<R: Reader>(
    context: &Context,
    mut connected: watch::Receiver<()>,
    config: &Config,
    reader: &R,
    touched: &mut Instant,
    said: &mut bool,
) -> Result<Infallible, Lost> {
    connected.mark_unchanged();
    let stream = context.get_or_create_stream(config.clone()).await.map_err(nats)?;
    let info = info(&stream).await?;
    let name = name_of(&info);
    let start_sequence = reader.begins(&name, &info).max(1);
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence };
    let consumer =
        stream.create_consumer(OrderedConfig { deliver_policy, ..OrderedConfig::default() }).await.map_err(nats)?;
    let is_all = consumer.cached_info().num_pending == 0;
    let mut messages = consumer.messages().await.map_err(nats)?;
    if is_all && reader.last() >= info.state.last_sequence {
        reader.has_read(&name, info.state.last_sequence);
    }
    if std::mem::take(said) {
        tracing::info!(stream = config.name, "the stream is read again");
    }
    let reading = async {
        while let Some(message) = messages.next().await {
            let message = message.map_err(nats)?;
            let place = message.info().map_err(|error| Lost::Nats(error.to_string()))?;
            reader.takes(&name, place.stream_sequence, &message.subject, &message.payload)?;
            if place.pending == 0 {
                // As far as the server knows that it comes from, which may be behind the others: nothing more is said to be read.
                reader.has_read(&name, place.stream_sequence);
            }
        }
        Err::<Infallible, _>(Lost::Nats("it has ended".to_owned()))
    };
    let looking = async {
        let mut waited = 0;
        loop {
            *touched = instant();
            sleep(LOOK_EVERY).await;
            let before = reader.last();
            let info = self::info(&stream).await?;
            let last = reader.last();
            if name_of(&info) != name {
                return Err::<Infallible, _>(Lost::Recreated);
            }
            if info.state.last_sequence < before {
                return Err(Lost::SetBack);
            }
            // What was taken out of it by hand does not come.
            waited = if info.state.last_sequence > last && last == before { waited + 1 } else { 0 };
            if waited >= LOOKS_MAX {
                reader.has_read(&name, info.state.last_sequence);
                waited = 0;
            }
        }
    };
    tokio::select! {
        lost = reading => lost,
        lost = looking => lost,
        _ = connected.changed() => Err(Lost::Reconnected),
    }
}

/// The log.
pub(super) struct Purges {
    known: Arc<Known>,
    /// What was there when a log was read for the first time: it was given before.
    given: AtomicU64,
}

impl Purges {
    pub(super) fn new(known: Arc<Known>) -> Self {
        Self { known, given: AtomicU64::new(0) }
    }
}

impl Reader for Purges {
    fn begins(&self, name: &str, info: &Info) -> u64 {
        let (recent, state) = (&self.known.recent, &info.state);
        let at = recent.at();
        if at.log == name && at.seq <= state.last_sequence {
            // Also the last one again, to see whether it is still the same.
            return at.seq;
        }
        let before = if state.messages == 0 { state.last_sequence } else { state.first_sequence.saturating_sub(1) };
        recent.set_live(false);
        recent.begin(name, before);
        self.given.store(state.last_sequence, Ordering::Relaxed);
        before + 1
    }

    fn takes(&self, name: &str, seq: u64, _: &str, payload: &[u8]) -> Result<(), Lost> {
        let recent = &self.known.recent;
        let (at, last_id) = recent.end();
        let record = serde_json::from_slice::<Record>(payload).map(|record| Record { seq, ..record });
        if seq <= at.seq {
            let is_same = seq < at.seq || last_id.is_empty() || record.is_ok_and(|record| record.id == last_id);
            if is_same {
                return Ok(());
            }
            // The servers have lost what this process has seen. Nodes that have seen it too cannot go on from there.
            recent.set_live(false);
            recent.begin("", 0);
            return Err(Lost::SetBack);
        }
        if seq > at.seq + 1 {
            tracing::warn!(
                from = at.seq + 1,
                to = seq - 1,
                "purges are missing in the log: nodes begin anew behind them"
            );
            recent.begin(name, seq - 1);
        }
        match record {
            Ok(record) if seq <= self.given.load(Ordering::Relaxed) => recent.add(Arc::new(record), || {}),
            Ok(record) => self.known.takes(Arc::new(record), instant()),
            Err(error) => {
                tracing::error!(seq, %error, "there is something in the log that is no purge: nodes begin anew behind it");
                recent.begin(name, seq);
            }
        }
        Ok(())
    }

    fn has_read(&self, name: &str, last: u64) {
        if self.known.recent.at().seq < last {
            // What was there was taken out.
            self.known.recent.begin(name, last);
        }
        if !self.known.recent.is_live() {
            self.known.recent.set_live(true);
        }
    }

    fn last(&self) -> u64 {
        self.known.recent.at().seq
    }

    fn pauses(&self) {}

    fn loses(&self) {
        self.known.recent.set_live(false);
    }
}

/// The nodes, as they are written down.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Before the name of each.
    subject: String,
    /// This process.
    by: String,
    known: Arc<Known>,
    there: Mutex<There>,
    /// Changes whenever something was read.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct There {
    /// The stream that is being read.
    stream: String,
    /// The one that was read last.
    known: String,
    last: u64,
    /// By name: the number, and what is written; nothing of a node that is gone.
    nodes: HashMap<String, (u64, Option<Written>)>,
    /// What was there when the stream was read for the first time was written before.
    written: u64,
}

impl Nodes {
    pub(super) fn new(subject: String, by: String, known: Arc<Known>) -> Self {
        Self { subject, by, known, there: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Whether this process of a node is written down.
    pub(super) fn has(&self, member: &Member, instance: u64) -> bool {
        let there = self.there.lock();
        let written = there.nodes.get(&member.id).and_then(|(_, written)| written.as_ref());
        written.is_some_and(|written| written.member == *member && written.instance == instance)
    }

    /// The number of what was written of a node last.
    pub(super) fn place(&self, id: &str) -> u64 {
        self.there.lock().nodes.get(id).map_or(0, |(seq, _)| *seq)
    }

    /// The same, if it is this process of the node.
    pub(super) fn place_of(&self, id: &str, instance: u64) -> Option<u64> {
        let there = self.there.lock();
        let (seq, written) = there.nodes.get(id)?;
        written.as_ref().filter(|written| written.instance == instance).map(|_| *seq)
    }

    /// What is known under a number is not the last, though nothing else has come: it is not kept any more.
    pub(super) fn is_outdated(&self, id: &str, seq: u64) {
        let mut there = self.there.lock();
        if there.nodes.get(id).is_some_and(|(known, written)| *known == seq && written.is_none()) {
            there.nodes.remove(id);
        }
    }

    /// Waits until a stream has been read up to a number.
    pub(super) async fn reaches(&self, stream: &str, seq: u64) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let has_read = {
                let there = self.there.lock();
                there.stream == stream && there.last >= seq
            };
            if has_read || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Reader for Nodes {
    fn begins(&self, name: &str, info: &Info) -> u64 {
        let mut there = self.there.lock();
        // All of it each time: it is little, and what was lost is seen to be missing.
        // What was read before says nothing of who lives now.
        let written = if there.known == name { there.written.max(there.last) } else { info.state.last_sequence };
        *there = There { stream: name.to_owned(), known: name.to_owned(), written, ..There::default() };
        1
    }

    fn takes(&self, _: &str, seq: u64, subject: &str, payload: &[u8]) -> Result<(), Lost> {
        let id = subject.strip_prefix(&*self.subject).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        let written = match payload {
            [] => None,
            text => match serde_json::from_slice::<Written>(text) {
                Ok(written) if written.member.id == id => Some(written),
                _ => {
                    tracing::error!(subject, "there is something among the nodes that is none");
                    None
                }
            },
        };
        let mut there = self.there.lock();
        let mut registry = self.known.registry.lock();
        match &written {
            Some(Written { member, instance, by }) => {
                let by = Some(&**by).filter(|by| *by != self.by && seq > there.written);
                registry.learns(member.clone(), *instance, by, instant());
            }
            None => registry.loses(id),
        }
        drop(registry);
        there.nodes.insert(id.to_owned(), (seq, written));
        there.last = seq;
        drop(there);
        self.changed.send_replace(());
        Ok(())
    }

    fn has_read(&self, _: &str, last: u64) {
        let mut there = self.there.lock();
        there.last = there.last.max(last);
        drop(there);
        self.changed.send_replace(());
    }

    fn last(&self) -> u64 {
        self.there.lock().last
    }

    fn pauses(&self) {
        // Nobody may take what was read for what is there.
        self.there.lock().stream.clear();
    }

    fn loses(&self) {}
}
