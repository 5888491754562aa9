//! What a control process keeps its purge log on, and shares the fleet with others on.

use std::sync::Arc;
use std::time::Duration;

use nearside_config::{Keep, PurgeLog};
use nearside_diagnostics::WatchedTasks;
use nearside_protocol::Order;
use nearside_replication::{Beat, Hello, Line};
use tokio::task::JoinHandle;

use crate::known::{Known, instant};
use crate::log::LogError;
use crate::log::file::FileLog;
#[cfg(feature = "nats")]
use crate::nats::Shared;
use crate::roll::Roll;

/// So often it is looked which nodes are gone.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// A purge log, and who is of the fleet.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// Files of this process alone.
    Alone(Arc<Alone>),
    /// NATS, with other control processes.
    #[cfg(feature = "nats")]
    Shared(Arc<Shared>),
}

/// While this lives, a node follows here.
#[derive(Debug)]
pub(crate) struct Following {
    engine: Engine,
    id: String,
    instance: u64,
}

impl Following {
    /// Of a node that has just joined.
    pub(crate) fn new(engine: Engine, hello: &Hello) -> Self {
        Self { engine, id: hello.member.id.clone(), instance: hello.instance }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        match &self.engine {
            Engine::Alone(alone) => {
                alone.known.registry.lock().parts(&self.id, self.instance);
                alone.known.heard.notify_waiters();
            }
            #[cfg(feature = "nats")]
            Engine::Shared(shared) => shared.parts(&self.id, self.instance),
        }
        tracing::info!(node = self.id, "a node does not follow any more");
    }
}

/// A log in a file.
#[derive(Debug)]
pub(crate) struct Alone {
    log: Arc<FileLog>,
    roll: Roll,
    known: Arc<Known>,
}

impl Alone {
    /// Forgets nodes of which nothing was heard for too long, as long as it runs.
    async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TEND_EVERY).await;
            if !self.known.registry.lock().forgets(instant()).is_empty() {
                self.write();
            }
        }
    }

    /// Writes down who is of the fleet.
    fn write(&self) {
        self.roll.write(|| self.known.registry.lock().members());
    }
}

impl Engine {
    /// Opens what is there, or begins it.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub(crate) async fn start(
        place: PurgeLog,
        keep: Keep,
        known: &Arc<Known>,
        tasks: &WatchedTasks,
    ) -> Result<(Self, Vec<JoinHandle<()>>), LogError> {
        match place {
            PurgeLog::File(path) => {
                let log = Arc::new(FileLog::open(&path, keep, Arc::clone(known))?);
                let roll =
                    Roll::open(&path).map_err(|cause| LogError::Io { path: path.with_extension("nodes"), cause })?;
                known.registry.lock().remember(roll.members(), instant());
                let alone = Arc::new(Alone { log, roll, known: Arc::clone(known) });
                let running = vec![tokio::spawn(tasks.clone().watch("fleet", Arc::clone(&alone).tend()))];
                Ok((Self::Alone(alone), running))
            }
            #[cfg(feature = "nats")]
            PurgeLog::Nats(nats) => {
                let (shared, running) = Shared::start(nats, keep, Arc::clone(known), tasks).await?;
                Ok((Self::Shared(shared), running))
            }
            #[cfg(not(feature = "nats"))]
            PurgeLog::Nats(_) => Err(LogError::WithoutNats),
        }
    }

    /// Adds an order: when this returns it is kept, and every node that could serve what it concerns is waited for. Its name.
    ///
    /// # Errors
    ///
    /// It is not in the log; or, if that is what the error says, it is not known whether it is.
    pub(crate) async fn append(&self, order: Order) -> Result<String, LogError> {
        match self {
            Self::Alone(alone) => alone.log.append(order).await.map(|record| record.id.clone()),
            #[cfg(feature = "nats")]
            Self::Shared(shared) => shared.append(order).await,
        }
    }

    /// A node begins to follow here; nothing if another of the same name does. When this returns, it is waited for by all orders that
    /// are not yet in what is known of the log.
    ///
    /// # Errors
    ///
    /// It is not known who else there is, or where the log is.
    pub(crate) async fn joins(&self, hello: &Hello) -> Result<Option<Following>, LogError> {
        match self {
            Self::Alone(alone) => {
                let mut registry = alone.known.registry.lock();
                let joined = registry.joins(&hello.member, hello.instance, hello.at.clone(), instant());
                drop(registry);
                let following = joined.then(|| Following::new(self.clone(), hello));
                if joined {
                    alone.write();
                }
                Ok(following)
            }
            #[cfg(feature = "nats")]
            Self::Shared(shared) => shared.joins(hello).await,
        }
    }

    /// A node says how far it is; whether it is known.
    pub(crate) fn hears(&self, beat: &Beat) -> bool {
        match self {
            Self::Alone(alone) => {
                let is_known = alone.known.hears(beat, None);
                if is_known && beat.leaves {
                    alone.write();
                }
                is_known
            }
            #[cfg(feature = "nats")]
            Self::Shared(shared) => shared.hears(beat),
        }
    }

    /// Something goes to all nodes beside the log.
    pub(crate) fn says(&self, line: Line) {
        match self {
            // Nobody listens: then nobody is waited for.
            Self::Alone(alone) => drop(alone.known.lines.send(Arc::new(line))),
            #[cfg(feature = "nats")]
            Self::Shared(shared) => shared.says(line),
        }
    }
}
