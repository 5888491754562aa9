//! The control process: it numbers purges, writes them to a log, carries them to all nodes, and says what became of them.
//!
//! [`engine`] is what the log is kept on: files ([`log::file`]), or [`nats`]. [`known`] is what is known of it here: the end of the
//! log ([`log`]), the nodes and what they have done ([`registry`]). [`fleet`] has the paths on which nodes follow, [`admission`] says
//! who they are, [`desk`] stands behind the admin API.
//!
//! **Invariant:** an order is kept before any node sees it, and before it is acknowledged; it is not acknowledged before every
//! node that was there is waited for. Nodes serve without this process; purges fail clearly then.

mod admission;
mod console;
mod desk;
mod engine;
mod fleet;
mod hooks;
mod known;
mod log;
pub mod machine;
mod metrics;
#[cfg(feature = "nats")]
mod nats;
mod registry;
mod replays;
mod roll;
mod signature;
mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use nearside_api::{Access, Backend, HostRule, ServeLimits, Server};
use nearside_config::{ControlConfig, HostPattern};
use nearside_diagnostics::WatchedTasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use admission::NodeDoor;
use desk::Desk;
use engine::Engine;
use known::Known;
pub use log::LogError;
use nearside_steering::Steering;
pub use nearside_steering::{SteeringError, WorldError};

/// Why the control process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {cause}{}", nearside_listen::advice(*address, cause))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Clients cannot be steered.
    #[error(transparent)]
    Steering(#[from] SteeringError),
}

/// A control process that serves.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    router: Option<SocketAddr>,
    dns: Option<SocketAddr>,
    running: Vec<JoinHandle<()>>,
    /// The tasks that answer over HTTP, and what has them finish.
    serving: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// How long requests that are under way are waited for when the process stops.
const STOP_MAX: Duration = Duration::from_secs(3);

impl Control {
    /// Starts it, on the runtime that this is called on: it listens when this returns.
    ///
    /// # Errors
    ///
    /// It cannot listen, or its log cannot be used.
    pub async fn start(config: ControlConfig) -> Result<Self, StartError> {
        let refused = |cause| StartError::Listen { address: config.listen, cause };
        let listener = nearside_listen::bind(config.listen).await.map_err(refused)?;
        let (stop, stopped) = watch::channel(false);
        let mut serving = Vec::new();
        let address = listener.local_addr().map_err(refused)?;
        let known = Arc::new(Known::new(config.keep));
        let tasks = WatchedTasks::default();
        let (engine, mut running) = Engine::start(config.log, config.keep, &known, &tasks).await?;
        let access = Access::new(config.tokens, address);
        let nodes = NodeDoor::new(config.nodes, config.node_credentials, address);
        let mut steering = None;
        let (mut router, mut dns) = (None, None);
        if let Some(config) = config.steering {
            let (started, listens, tasks) = Steering::start(config, known.clone(), &stopped, &tasks).await?;
            steering = Some(started);
            (router, dns) = (listens.router, listens.dns);
            running.extend(tasks);
            serving.extend(listens.serving);
        }
        let desk = Arc::new(Desk::new(access, nodes, Arc::clone(&known), engine, steering));
        let server = server(address, config.hosts, &desk);
        running.push(tokio::spawn(tasks.clone().watch("node events", fleet::watch_nodes(Arc::clone(&desk)))));
        for webhook in config.webhooks {
            // From the first event on.
            let (_, events) = known.events.listen(None);
            running.push(tokio::spawn(tasks.clone().watch("webhook", webhooks::tell(webhook, events))));
        }
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get({
                    let (stopped, tasks) = (stopped.clone(), tasks.clone());
                    move || std::future::ready(readyz(&known, &tasks, *stopped.borrow()))
                }),
            )
            .merge(metrics::routes(Arc::clone(&desk), server.counts()))
            .merge(fleet::routes(Arc::clone(&desk)))
            .merge(console::routes(Arc::clone(&desk), config.console))
            .merge(hooks::routes(Arc::clone(&desk), config.hooks))
            .merge(nearside_api::routes(desk));
        let watch = tasks.clone();
        serving.push(tokio::spawn(tasks.watch("listener", async move {
            if let Err(error) = server.run(listener, routes, until_told(stopped)).await {
                tracing::error!(%error, "the listener has ended");
                watch.fail("listener");
            }
        })));
        Ok(Self { address, router, dns, running, serving, stop })
    }

    /// Stops it: connections that the system has accepted already and requests under way are answered, for a few seconds at
    /// most.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let end = Instant::now() + STOP_MAX;
        for task in &mut self.serving {
            // What takes longer is cut off.
            let _ = timeout_at(end, task).await;
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients ask which edge is theirs.
    #[must_use]
    pub fn router(&self) -> Option<SocketAddr> {
        self.router
    }

    /// Where resolvers ask.
    #[must_use]
    pub fn dns(&self) -> Option<SocketAddr> {
        self.dns
    }
}

/// The server for operators and nodes.
fn server(address: SocketAddr, hosts: Vec<HostPattern>, desk: &Arc<Desk>) -> Server {
    let doors = Arc::clone(desk);
    let rule = HostRule::new(address, hosts, "hosts");
    let rule = rule.except(move |fields| doors.access().knows(fields) || doors.nodes.knows(fields));
    Server::new(ServeLimits::control()).under(rule)
}

/// Waits until the process is told to stop, or is dropped.
async fn until_told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn readyz(known: &Known, tasks: &WatchedTasks, stops: bool) -> (StatusCode, String) {
    let why_not = if stops {
        Some("the process is stopping".to_owned())
    } else if !known.recent.is_live() {
        Some("the purge log cannot be read".to_owned())
    } else {
        tasks.why_not_ready()
    };
    match why_not {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        None => (StatusCode::OK, "ready\n".to_owned()),
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.running.iter().chain(&self.serving).for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use nearside_config::Keep;

    use super::*;

    #[tokio::test]
    async fn a_control_process_whose_task_has_failed_is_not_ready() {
        let (known, tasks) = (Known::new(Keep::default()), WatchedTasks::default());
        known.recent.begin("l", 0);
        known.recent.set_live(true);
        assert_eq!(readyz(&known, &tasks, false).0, StatusCode::OK);
        let failing = tokio::spawn(tasks.clone().watch("webhook", async { panic!("on purpose") }));
        assert!(failing.await.is_err());
        let (status, why) = readyz(&known, &tasks, false);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(why.contains("(webhook)"), "{why}");
    }
}
