//! A running node: its threads, its listeners, and how it stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nearside_api::Access;
use nearside_config::{Config, TlsListener};
use nearside_diagnostics::WatchedTasks;
use nearside_engine::request::Engine;
use nearside_engine::tier::Tier;
use nearside_front::Worker;
use nearside_front::accept::{self, Accepting, ListenError, Listener};
use nearside_front::places::Places;
use nearside_front::shares::Shares;
use nearside_front::tls::{self, TlsError};
use nearside_telemetry::access_log::Log;
use nearside_telemetry::clock::{Clock, instant};
use nearside_telemetry::metrics::Metrics;
use nearside_telemetry::trace::Exporter;
use nearside_upstream::{authorities, watch_shields};
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::collect;
use crate::descriptors::{self, raise_descriptor_limit};
use crate::follow::follow;
use crate::operator::{AdminState, LiveTap, Operator, PurgesByMethod};

/// Why a node cannot start. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not this machine's.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log cannot be opened, or a thread not started.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How a node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every answer was finished.
    Drained,
    /// So many connections were cut off, because their time was up.
    CutOff(usize),
}

/// A node that serves.
pub struct Node {
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// The thread of the admin listener, and what has it finish its requests and end.
    admin: Option<(JoinHandle<()>, watch::Sender<bool>)>,
    places: Arc<Places>,
    accepting: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    drain_delay: Duration,
    drain_max: Duration,
    log: Arc<Log>,
    /// What serves as long as the node runs.
    tasks: WatchedTasks,
}

/// Log lines reach the sink, and closed connections are let go, within this time.
const TICK: Duration = Duration::from_millis(200);
/// The same while no request is logged, so that an idle node wakes up less often.
const TICK_AT_REST: Duration = Duration::from_secs(1);

impl Node {
    /// Starts a node: all listeners are bound and accept when this returns.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from serving all that the configuration says.
    pub fn start(config: Config, tier: Box<dyn Tier>, clock: Clock) -> Result<Self, StartError> {
        // What names no provider takes the process's; the one that is installed first stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        authorities::read()?;
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(Arc::new(Listener::bind_or_ipv4(*address, None, config.threads)?));
        }
        for listener in &config.listen_tls {
            listeners.push(Arc::new(Listener::bind_or_ipv4(
                listener.address,
                Some(tls::settings(listener)?),
                config.threads,
            )?));
        }
        let admin_listener = config.admin.map(|address| Listener::bind_or_ipv4(address, None, 1)).transpose()?;
        // With its port, where that was left to the system: a control process tells it to those who name this node.
        let config = Config { admin: admin_listener.as_ref().map(|listener| listener.address), ..config };
        let names = config.sites.iter().map(|site| site.name.clone());
        let expiry = |listener: &TlsListener| Some((listener.address.to_string(), tls::expiry(listener)?));
        let certificates = config.listen_tls.iter().filter_map(expiry).collect();
        let metrics = Arc::new(Metrics::new(config.threads, names, certificates));
        let (threads, timeouts) = (config.threads, config.timeouts);
        let connections = descriptors::connections(&config, raise_descriptor_limit());
        let (places, shares) = (Arc::new(Places::new(connections)), Arc::new(Shares::new(&config, connections)));
        let tokens = config.tokens.clone();
        let state = Arc::new(AdminState::new(&config));
        let method_purges = Box::new(PurgesByMethod(Arc::clone(&state)));
        let engine = Arc::new(Engine::new(config, tier, clock, method_purges));
        let tasks = WatchedTasks::default();
        let log = Arc::new(Log::start(&engine.config, Arc::new(LiveTap(Arc::clone(&state.tap))), &tasks)?);
        let traces = Exporter::start(&engine.config, &tasks)?.map(Arc::new);
        let (stop, stopped) = watch::channel(false);
        let (clear, tls): (Vec<_>, Vec<_>) = listeners.iter().partition(|listener| listener.tls.is_none());
        let mut node = Self {
            addresses: clear.iter().map(|listener| listener.address).collect(),
            tls_addresses: tls.iter().map(|listener| listener.address).collect(),
            admin_address: admin_listener.as_ref().map(|listener| listener.address),
            workers: Vec::new(),
            threads: Vec::new(),
            stop,
            admin: None,
            places: Arc::clone(&places),
            accepting: Arc::default(),
            draining: Arc::new(AtomicBool::new(false)),
            drain_delay: timeouts.drain_delay,
            drain_max: timeouts.drain,
            log: Arc::clone(&log),
            tasks: tasks.clone(),
        };
        for thread in 0..threads {
            let (engine, metrics, log) = (Arc::clone(&engine), Arc::clone(&metrics), Arc::clone(&log));
            let room = (Arc::clone(&places), Arc::clone(&shares));
            let worker = Worker::new(engine, metrics, log, traces.clone(), room, thread);
            node.start_worker(Arc::new(worker), &listeners, stopped.clone())?;
        }
        if engine.position.is_some() {
            node.start_following(Arc::clone(&engine), Arc::clone(&metrics), stopped.clone())?;
        }
        if let Some(listener) = admin_listener {
            let access = Arc::new(Access::new(tokens, listener.address));
            let mut registry = collect::registry(Arc::clone(&engine), metrics, shares, log, traces);
            let admin = Admin {
                hosts: engine.config.admin_hosts.clone(),
                server: admin::server(&mut registry),
                registry,
                draining: Arc::clone(&node.draining),
                operator: Arc::new(Operator { engine, state, access, draining: Arc::clone(&node.draining) }),
                tasks,
            };
            node.start_admin(listener, Arc::new(admin), stopped)?;
        }
        Ok(node)
    }

    fn start_worker(
        &mut self,
        worker: Arc<Worker>,
        listeners: &[Arc<Listener>],
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        self.workers.push(Arc::clone(&worker));
        let listeners: Vec<_> =
            listeners.iter().map(|listener| (Arc::clone(listener), Accepting::new(&self.accepting))).collect();
        let tasks = self.tasks.clone();
        let guard = tasks.guard("serving thread");
        let serve = async move {
            if worker.thread == 0 {
                watch_shields(&worker.engine.hops, &worker.engine.clock, &tasks);
            }
            for (listener, accepting) in listeners {
                let worker = Arc::clone(&worker);
                let watch = tasks.clone();
                tokio::spawn(tasks.clone().watch("listener", async move {
                    let address = listener.address;
                    if let Err(error) = accept::run(listener, worker, accepting).await {
                        tracing::error!(%address, %error, "a listener has ended");
                        watch.fail("listener");
                    }
                }));
            }
            let mut pause = TICK;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {
                        pause = if worker.log.flush(worker.thread) { TICK } else { TICK_AT_REST };
                        worker.engine.hops.sweep();
                        worker.engine.clock.follow_wall();
                    }
                    _ = stopped.changed() => break,
                }
            }
            worker.log.flush(worker.thread);
        };
        let name = format!("serve-{}", self.threads.len());
        let run = move || {
            let _guard = guard;
            runtime.block_on(serve);
        };
        self.threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Follows the purge log, on a thread of its own: nothing that serves waits for it.
    fn start_following(
        &mut self,
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let follow = follow(engine, metrics, self.tasks.clone(), async move {
            let _ = stopped.changed().await;
        });
        let guard = self.tasks.guard("purge log");
        let run = move || {
            let _guard = guard;
            runtime.block_on(follow);
        };
        let thread = std::thread::Builder::new().name("purges".to_owned()).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }

    fn start_admin(
        &mut self,
        listener: Listener,
        admin: Arc<Admin>,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (leave, mut left) = watch::channel(false);
        let serve = async move {
            let leaves = async move {
                // Without the node nobody waits for requests to be finished.
                let _ = left.wait_for(|left| *left).await;
            };
            tokio::select! {
                ended = admin::serve(listener, admin, leaves) => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the admin listener has ended");
                    }
                }
                _ = stopped.changed() => {}
            }
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(serve))?;
        self.admin = Some((thread, leave));
        Ok(())
    }

    /// Opens the file of the access log anew, as it may have been moved away.
    pub fn reopen_log(&self) {
        self.log.reopen();
    }

    /// Where it listens in clear, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens over TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Where operators reach it.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Stops the node and blocks until it has stopped.
    ///
    /// From now on the node is not ready. After `timeouts.drain_delay`, in which it serves as before, listening sockets are
    /// closed when their queues are empty, idle connections are closed, and running responses are finished, up to
    /// `timeouts.drain`.
    pub fn stop(mut self) -> Stopped {
        let open = self.drain();
        // Last of all: until then it tells that the node is stopping.
        if let Some((thread, leave)) = self.admin.take() {
            leave.send_replace(true);
            join(thread);
        }
        self.end();
        if open == 0 { Stopped::Drained } else { Stopped::CutOff(open) }
    }

    /// Waits for the connections to end, and returns how many were left when the time was up.
    fn drain(&self) -> usize {
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        self.draining.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.leave();
        }
        std::thread::sleep(self.drain_delay);
        for worker in &self.workers {
            worker.drain();
        }
        let end = instant() + self.drain_max;
        loop {
            // In this order: what has left the queue of a socket has its place before the socket counts as closed.
            let accepting = self.accepting.load(Ordering::Acquire);
            let open = self.places.taken();
            if accepting == 0 && open == 0 || instant() >= end {
                return open;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn end(&mut self) {
        // Nobody listens any more if all threads have ended by themselves.
        let _ = self.stop.send(true);
        let admin = self.admin.take().map(|(thread, _)| thread);
        self.threads.drain(..).chain(admin).for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the node has panicked");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
