//! The purge log on NATS JetStream, and the fleet that several control processes share there.
//!
//! Two streams: the purges, whose order is that of the log; and the nodes, of each the last that was said. What nodes say of
//! themselves each second is passed on between the control processes beside the streams; what is lost there is said again,
//! but for how much an order has met, or would: a place says only that it was applied.
//!
//! **Invariant:** a purge that is acknowledged waits for every node that may serve what it concerns, whichever control process that
//! follows. A node is written down before it is looked where the log ends and where it begins to follow; who is written down
//! is looked at after a purge has its place in the log. So either the purge's giver sees the node, or the node begins behind the purge.
//!
//! Places are kept here and not in durable consumers: a control process reads the log from its beginning when it starts, and
//! after a connection was lost from the last order that it has, which must still be the same one.

mod connect;
mod read;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info};
use async_nats::jetstream::{Context, context::ContextBuilder};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use nearside_config::{Keep, Nats};
use nearside_diagnostics::WatchedTasks;
use nearside_protocol::{Member, Order};
use nearside_replication::{At, Beat, Hello, Line, Record};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::engine::{Engine, Following};
use crate::known::{Known, instant};
use crate::log::{LogError, new_name, now};
use connect::connect;
use read::{Nodes, Purges, read};

/// So long it is tried to connect at first.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longer takes no answer of NATS.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// So long it is tried to add an order.
const APPEND_MAX: Duration = Duration::from_secs(5);
/// What is in a stream has been read here after so long.
const READ_MAX: Duration = Duration::from_secs(2);
/// Before something is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// So often it is looked whether all nodes that follow here are written down, and which are gone.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// An order that is given again within this time is the same.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Nodes that live have said so after this time: once a second.
const BEATS_AFTER: Duration = Duration::from_millis(1200);
/// A node that follows is written down anew this often, and what was written is kept for so long.
const WRITE_EVERY: Duration = Duration::from_secs(12 * 3600);
const WRITTEN_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// Nodes that can be written down.
const NODES_MAX: i64 = 100_000;
/// What is passed on and not sent yet; more is lost, and said again.
const TELLING_MAX: usize = 10_000;
/// So often a node is written down anew when others write at the same time.
const WRITES_MAX: usize = 5;

/// A log and a fleet on NATS.
#[derive(Debug)]
pub(crate) struct Shared {
    known: Arc<Known>,
    /// The name of this process among those that share them.
    name: String,
    names: Names,
    client: Client,
    context: Context,
    /// Changes whenever the connection was made anew.
    connected: watch::Receiver<()>,
    /// What stands in the stream of nodes.
    nodes: Arc<Nodes>,
    telling: mpsc::Sender<Told>,
    /// Nodes that are gone, and are still written down.
    leaving: Mutex<Vec<(String, u64)>>,
    to_tend: Notify,
}

/// How things are called on NATS.
#[derive(Debug)]
struct Names {
    purges: String,
    nodes: String,
    purges_subject: String,
    nodes_subject: String,
    told_subject: String,
}

/// A node, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    member: Member,
    instance: u64,
    /// The control process that it followed when it was written down.
    by: String,
}

/// What control processes tell each other.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    by: String,
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
enum What {
    /// A node has said so.
    Beat(Beat),
    /// A node does not follow any more.
    Parted { id: String, instance: u64 },
    /// To all nodes.
    Line(Line),
}

impl Names {
    fn new(stream: &str) -> Self {
        Self {
            purges: stream.to_owned(),
            nodes: format!("{stream}-nodes"),
            purges_subject: format!("{stream}.purges"),
            nodes_subject: format!("{stream}.nodes"),
            told_subject: format!("{stream}.told"),
        }
    }

    fn node(&self, id: &str) -> String {
        format!("{}.{id}", self.nodes_subject)
    }
}

impl Shared {
    /// Connects, and reads all there is.
    pub(crate) async fn start(
        nats: Nats,
        keep: Keep,
        known: Arc<Known>,
        tasks: &WatchedTasks,
    ) -> Result<(Arc<Self>, Vec<JoinHandle<()>>), LogError> {
        let names = Names::new(nats.stream.as_str());
        let (client, connected) = connect(&nats).await?;
        let context = ContextBuilder::new().timeout(ANSWER_MAX).ack_timeout(ANSWER_MAX).build(client.clone());
        let name = new_name();
        let nodes = Arc::new(Nodes::new(names.nodes_subject.clone(), name.clone(), Arc::clone(&known)));
        let (telling, told) = mpsc::channel(TELLING_MAX);
        let of_purges = Config {
            name: names.purges.clone(),
            subjects: vec![names.purges_subject.clone()],
            description: Some("The purge log of Nearside".to_owned()),
            max_messages: i64::try_from(keep.records).unwrap_or(i64::MAX),
            // None would be for ever.
            max_age: keep.time.max(Duration::from_secs(1)),
            discard: DiscardPolicy::Old,
            num_replicas: nats.replicas,
            duplicate_window: DUPLICATE_WINDOW.min(keep.time.max(Duration::from_secs(1))),
            ..Config::default()
        };
        let of_nodes = Config {
            name: names.nodes.clone(),
            subjects: vec![format!("{}.>", names.nodes_subject)],
            description: Some("The nodes that follow the purge log of Nearside".to_owned()),
            max_messages: NODES_MAX,
            max_messages_per_subject: 1,
            // Those that follow are written down anew before this; the others are gone by then.
            max_age: WRITTEN_MAX,
            discard: DiscardPolicy::Old,
            num_replicas: nats.replicas,
            ..Config::default()
        };
        // So that it is said at once what cannot work.
        for config in [&of_purges, &of_nodes] {
            read::limited(&context, config).await.map_err(|error| LogError::Nats(error.to_string()))?;
        }
        let purges = Arc::new(Purges::new(Arc::clone(&known)));
        let shared = Arc::new(Self {
            known,
            name,
            names,
            client,
            context,
            connected,
            nodes,
            telling,
            leaving: Mutex::default(),
            to_tend: Notify::new(),
        });
        let running = vec![
            tokio::spawn(
                tasks
                    .clone()
                    .watch("nodes on NATS", Arc::clone(&shared).keep_reading(of_nodes, Arc::clone(&shared.nodes))),
            ),
            tokio::spawn(tasks.clone().watch("purge log on NATS", Arc::clone(&shared).keep_reading(of_purges, purges))),
            tokio::spawn(tasks.clone().watch("messages to other control processes", Arc::clone(&shared).tell(told))),
            tokio::spawn(tasks.clone().watch("messages of other control processes", Arc::clone(&shared).listen())),
            tokio::spawn(tasks.clone().watch("fleet on NATS", Arc::clone(&shared).tend())),
        ];
        // Whoever asks first should find all nodes, and those that live to have said so. A log may be longer than that takes.
        let read = async {
            shared.known.recent.lives().await;
            while shared.sync_nodes().await.is_err() {
                sleep(PAUSE).await;
            }
            if shared.known.registry.lock().nodes().next().is_some() {
                sleep(BEATS_AFTER).await;
            }
        };
        if timeout(CONNECT_MAX, read).await.is_err() {
            tracing::warn!("the purge log has not been read yet: until it is, nothing can be purged here");
        }
        Ok((shared, running))
    }

    async fn keep_reading<R: read::Reader>(self: Arc<Self>, config: Config, reader: Arc<R>) {
        read(&self.context, self.connected.clone(), config, &*reader).await;
    }

    /// Adds an order: its name.
    pub(crate) async fn append(&self, order: Order) -> Result<String, LogError> {
        let out_of_reach = |_elapsed| LogError::Nats("it is out of reach for now".to_owned());
        timeout(READ_MAX, self.known.recent.lives()).await.map_err(out_of_reach)?;
        let record = Record { seq: 0, id: new_name(), at: now(), order };
        let payload = written(&record)?;
        let mut fields = HeaderMap::new();
        fields.insert(NATS_MESSAGE_ID, record.id.as_str());
        let accepted = instant();
        let seq = self.publish_until(instant() + APPEND_MAX, fields, payload).await?.sequence;
        // It is in the log. From here on nobody may say that it is not.
        let read = async {
            self.known.recent.has(seq, &record.id).await;
            while self.sync_nodes().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        timeout(APPEND_MAX, read).await.map_err(|_elapsed| LogError::Accepted(record.id.clone()))?;
        let place = At { log: self.known.recent.at().log, seq };
        self.known.registry.lock().gives_also(place, record.id.clone(), accepted);
        Ok(record.id)
    }

    /// Publishes an order again and again, until NATS says that it has it, as one and the same.
    async fn publish_until(
        &self,
        deadline: Instant,
        fields: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, LogError> {
        let mut may_be_there = false;
        loop {
            let published =
                self.context.publish_with_headers(self.names.purges_subject.clone(), fields.clone(), payload.clone());
            let published = async { published.await?.await }.await;
            let error = match published {
                Ok(ack) => return Ok(ack),
                Err(error) => error,
            };
            match error.kind() {
                // It may have come there all the same.
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::Other => {
                    may_be_there = true;
                }
                PublishErrorKind::MaxPayloadExceeded if !may_be_there => {
                    let most = self.client.server_info().max_payload;
                    let size = payload.len();
                    let what = format!("the order has {size} bytes, and its max_payload is {most}: give it in parts");
                    return Err(LogError::Nats(what));
                }
                // Also while it is being started.
                _ => {}
            }
            if instant() >= deadline {
                return Err(if may_be_there { LogError::Unknown } else { LogError::Nats(error.to_string()) });
            }
            sleep(PAUSE).await;
        }
    }

    /// A node begins to follow here.
    pub(crate) async fn joins(self: &Arc<Self>, hello: &Hello) -> Result<Option<Following>, LogError> {
        let Hello { member, instance, at, .. } = hello;
        for _ in 0..WRITES_MAX {
            self.sync_nodes().await?;
            if self.known.registry.lock().is_taken(&member.id, *instance, instant()) {
                return Ok(None);
            }
            let is_known = self.known.registry.lock().is_known(member, *instance, instant());
            if !(is_known && self.nodes.has(member, *instance)) {
                if !self.write(member, *instance).await? {
                    continue;
                }
                self.sync_nodes().await?;
            }
            if !self.known.registry.lock().joins(member, *instance, at.clone(), instant()) {
                return Ok(None);
            }
            let following = Following::new(Engine::Shared(Arc::clone(self)), hello);
            // What is in the log by now comes before it.
            self.sync_purges().await?;
            return Ok(Some(following));
        }
        Err(LogError::Nats(format!("the node {:?} is being written down by others all the time", member.id)))
    }

    /// A connection on which a node followed here has ended.
    pub(crate) fn parts(&self, id: &str, instance: u64) {
        if self.known.registry.lock().parts(id, instance) {
            self.pass_on(What::Parted { id: id.to_owned(), instance });
        }
        self.known.heard.notify_waiters();
    }

    /// A node that follows here says how far it is.
    pub(crate) fn hears(&self, beat: &Beat) -> bool {
        let is_known = self.known.hears(beat, None);
        if is_known {
            if beat.leaves {
                self.leaving.lock().push((beat.node.clone(), beat.instance));
                self.to_tend.notify_one();
            }
            self.pass_on(What::Beat(beat.clone()));
        }
        is_known
    }

    /// A line goes to all nodes, whichever process they follow.
    pub(crate) fn says(&self, line: Line) {
        // Nobody listens: then nobody is waited for.
        let _ = self.known.lines.send(Arc::new(line.clone()));
        self.pass_on(What::Line(line));
    }

    fn pass_on(&self, what: What) {
        if self.telling.try_send(Told { by: self.name.clone(), what }).is_err() {
            tracing::debug!("too much is to be passed on to the other control processes: something was lost");
        }
    }

    /// Passes on what is to be passed on, as long as it runs.
    async fn tell(self: Arc<Self>, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            if self.client.connection_state() != State::Connected {
                // What would be told later than it was true.
                continue;
            }
            let Ok(text) = serde_json::to_vec(&told) else { continue };
            if let Err(error) = self.client.publish(self.names.told_subject.clone(), text.into()).await {
                tracing::debug!(%error, "nothing can be passed on to the other control processes");
            }
        }
    }

    /// Hears what others pass on, as long as it runs.
    async fn listen(self: Arc<Self>) {
        loop {
            match self.client.subscribe(self.names.told_subject.clone()).await {
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        match serde_json::from_slice(&message.payload) {
                            Ok(told) => self.obey(told),
                            Err(error) => tracing::warn!(%error, "another control process speaks something else"),
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the other control processes cannot be heard"),
            }
            sleep(TEND_EVERY).await;
        }
    }

    fn obey(&self, Told { by, what }: Told) {
        match what {
            What::Beat(beat) => {
                self.known.hears(&beat, Some(&by));
            }
            What::Parted { id, instance } => {
                self.known.registry.lock().parts_elsewhere(&id, instance, &by);
                self.known.heard.notify_waiters();
            }
            What::Line(line) => drop(self.known.lines.send(Arc::new(line))),
        }
    }

    /// Looks after what is written down, as long as it runs.
    async fn tend(self: Arc<Self>) {
        let mut written = instant();
        loop {
            let _ = timeout(TEND_EVERY, self.to_tend.notified()).await;
            if !self.known.recent.is_live() || self.sync_nodes().await.is_err() {
                continue;
            }
            let (gone, here) = {
                let mut registry = self.known.registry.lock();
                (registry.forgets(instant()), registry.followers())
            };
            self.leaving.lock().extend(gone);
            self.strike().await;
            // The stream may have been lost; and what is in it is not kept for ever.
            let is_old = instant().saturating_duration_since(written) >= WRITE_EVERY;
            if is_old {
                written = instant();
            }
            for (member, instance) in here {
                if (is_old || !self.nodes.has(&member, instance))
                    && let Err(error) = self.write(&member, instance).await
                {
                    tracing::warn!(node = member.id, %error, "a node that follows cannot be written down");
                }
            }
        }
    }

    /// Writes a node down; whether nobody else has written it meanwhile.
    async fn write(&self, member: &Member, instance: u64) -> Result<bool, LogError> {
        let node = Written { member: member.clone(), instance, by: self.name.clone() };
        self.replace(&member.id, self.nodes.place(&member.id), written(&node)?).await
    }

    /// Nodes that are gone are of the fleet no more, unless they have come again; tried until it is done.
    async fn strike(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        for (id, instance) in leaving {
            if self.sync_nodes().await.is_err() {
                self.leaving.lock().push((id, instance));
                continue;
            }
            let Some(place) = self.nodes.place_of(&id, instance) else { continue };
            let done = self.replace(&id, place, Bytes::new()).await;
            if !matches!(done, Ok(true)) {
                tracing::debug!(node = id, ?done, "it cannot be written down yet that a node is gone");
                self.leaving.lock().push((id, instance));
            }
        }
    }

    /// Writes something of a node in the place of what was written under the number `place`; whether that was still the last.
    async fn replace(&self, id: &str, place: u64, payload: Bytes) -> Result<bool, LogError> {
        let mut fields = HeaderMap::new();
        fields.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, place.to_string().as_str());
        let published = self.context.publish_with_headers(self.names.node(id), fields, payload);
        match async { published.await?.await }.await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                // Unless somebody else was faster, what was written of it is not kept any more.
                self.nodes.is_outdated(id, place);
                Ok(false)
            }
            Err(error) => Err(LogError::Nats(error.to_string())),
        }
    }

    /// All that is in the stream of nodes by now has been read.
    async fn sync_nodes(&self) -> Result<(), LogError> {
        let info = self.info(&self.names.nodes).await?;
        let (name, end) = (read::name_of(&info), info.state.last_sequence);
        timeout(READ_MAX, self.nodes.reaches(&name, end)).await.map_err(|_elapsed| silent())
    }

    /// All that is in the log by now has been read.
    async fn sync_purges(&self) -> Result<(), LogError> {
        let info = self.info(&self.names.purges).await?;
        let end = info.state.last_sequence;
        timeout(READ_MAX, self.known.recent.reaches(end)).await.map_err(|_elapsed| silent())?;
        let is_it = self.known.recent.at().log == read::name_of(&info);
        if is_it { Ok(()) } else { Err(LogError::Nats("the log was made anew just now".to_owned())) }
    }

    async fn info(&self, stream: &str) -> Result<Info, LogError> {
        let unknown = |error: &dyn std::error::Error| LogError::Nats(error.to_string());
        let stream = self.context.get_stream_no_info(stream).await.map_err(|error| unknown(&error))?;
        read::info(&stream).await.map_err(|error| unknown(&error))
    }
}

fn silent() -> LogError {
    LogError::Nats("it does not answer in time".to_owned())
}

fn written<T: Serialize>(what: &T) -> Result<Bytes, LogError> {
    serde_json::to_vec(what).map(Bytes::from).map_err(|error| LogError::Nats(error.to_string()))
}
