//! The pass lane: requests that a cache does not answer (RFC 9111 §3: other methods, bodies, upgrades) go forward and
//! their answers come back as they are.
//!
//! Own code on the connections of [`crate::hop`], not pingora-proxy: see ADR 0002. Nothing is stored here; a success
//! of an unsafe method invalidates what is stored for its URI (RFC 9111 §4.4).

pub(crate) mod tunnel;
pub(crate) mod upload;

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use nearside_semantics::cache_status;
use nearside_store::Body;

use crate::fill::{Fetched, Unstored};
use crate::hop::{Asked, Forward, Hop, HopError, UpgradeStream};
use crate::outcome::{Outcome, Verdict};
use crate::request::{Answer, Engine, Request, respond};
use upload::Upload;

/// What comes of a request in the pass lane.
pub(crate) enum Passed {
    /// An answer to write.
    Answer(Answer),
    /// 101: the connection now belongs to the two ends.
    Upgraded { head: HeaderMap, stream: UpgradeStream, outcome: Outcome },
}

/// Sends a request forward and brings its answer back.
pub(crate) async fn pass(engine: &Arc<Engine>, site: usize, request: &Request, upload: Option<Upload>) -> Passed {
    let mut key = Vec::new();
    engine.write_key(site, request, &mut key);
    let forward = engine.forward(site, request);
    let to = engine.hops.candidates(site, &key);
    let mut outcome = Outcome::new(Verdict::Bypass, Some(site));
    outcome.forward = Some(reason(&request.method));
    match ask(engine, &to, &forward, upload).await {
        Ok(asked) if asked.head.status == StatusCode::SWITCHING_PROTOCOLS => upgrade(asked, outcome).await,
        Ok(asked) => {
            outcome.forward_status = Some(asked.head.status.as_u16());
            outcome.upstream = Some(Arc::clone(&asked.hop.name));
            if invalidates(&request.method, asked.head.status) {
                engine.purge_key(&key);
            }
            Passed::Answer(relay(engine, asked, request, outcome))
        }
        Err(error) => Passed::Answer(respond::failure(&error, outcome)),
    }
}

async fn ask(engine: &Engine, to: &[Arc<Hop>], forward: &Forward, upload: Option<Upload>) -> Result<Asked, HopError> {
    match upload {
        Some(upload) => engine.hops.ask_with_body(to, forward, &engine.clock, upload).await,
        // Without a body, safe methods may be asked again elsewhere; the others get one try.
        None if forward.method.is_safe() => engine.hops.ask(to, forward, &engine.clock).await,
        None => engine.hops.ask_with_body(to, forward, &engine.clock, Upload::empty()).await,
    }
}

fn reason(method: &Method) -> cache_status::Forward {
    if method == Method::GET || method == Method::HEAD {
        cache_status::Forward::Bypass
    } else {
        cache_status::Forward::Method
    }
}

/// "a non-error response to an unsafe request method" (RFC 9111 §4.4); unknown methods count as unsafe.
fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

async fn upgrade(asked: Asked, mut outcome: Outcome) -> Passed {
    let head = asked.head.fields.clone();
    outcome.forward_status = Some(101);
    outcome.upstream = Some(Arc::clone(&asked.hop.name));
    match asked.into_upgrade().await {
        Some(stream) => Passed::Upgraded { head, stream, outcome },
        None => Passed::Answer(respond::failure(&HopError::Body, outcome)),
    }
}

/// The answer, with its body passing through a window.
fn relay(engine: &Arc<Engine>, asked: Asked, request: &Request, outcome: Outcome) -> Answer {
    let (body, writer) = Body::growing(None, Some(engine.config.limits.window_bytes));
    let fetched = Fetched::new(engine, &asked, body, Err(Unstored::Passed), &request.fields);
    let reader = fetched.body.reader(0);
    tokio::spawn(crate::fill::stream(Arc::clone(engine), asked, writer));
    respond::fetched_whole(&fetched, reader, request, outcome, engine.clock.now())
}
