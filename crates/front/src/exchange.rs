//! One request and its response, the same for every protocol: admission, normalisation, the way through the engine, interim
//! responses. A front parses the request before, and sends the response after.

use std::sync::Arc;

use http::{Method, StatusCode};
use nearside_config::SiteId;
use nearside_engine::pass::{self, Passed};
use nearside_engine::request::admit::{Admitted, RequestHead, admit};
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Request, forward, plan};
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_upstream::interim::Interim;
use nearside_upstream::upload::Upload;
use tokio::sync::mpsc;

use crate::Worker;
use crate::shares::{Holds, Member, Progress};

/// Body of a request, as its head announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestBody {
    /// No body, or an empty one.
    Empty,
    /// A body of this many bytes, at least one.
    Length(u64),
    /// A body whose end shows only when it arrives.
    Unknown,
}

impl RequestBody {
    /// The body of a request with this `Content-Length`.
    pub(crate) const fn of_length(length: Option<u64>) -> Self {
        match length {
            Some(0) => Self::Empty,
            Some(length) => Self::Length(length),
            None => Self::Unknown,
        }
    }
}

/// A client whose request is in progress, as its front serves it.
pub(crate) trait Carrier {
    /// Sends an interim response. Fails if the client has left, or nothing may follow what was sent of it.
    async fn send_interim(&mut self, interim: &Interim) -> std::io::Result<()>;

    /// Runs `work` to its end, and carries the request body to it meanwhile. Returns `None` if the client leaves before.
    async fn run<F: Future + Unpin>(&mut self, work: F) -> Option<F::Output>;

    /// Whether any of the request body has arrived.
    fn has_body_begun(&self) -> bool;
}

/// A request that was admitted and is in progress.
pub(crate) struct Exchange<'w> {
    worker: &'w Worker,
    admitted: Admitted,
    body: RequestBody,
    progress: Progress,
}

impl<'w> Exchange<'w> {
    /// Admits a request, counts it as one in progress, and normalises it. Of its body at most `window` bytes are held here.
    pub(crate) fn begin(
        worker: &'w Worker,
        member: &Member,
        request: &mut Request,
        body: RequestBody,
        window: u64,
    ) -> Result<Self, Refusal> {
        let engine = &worker.engine;
        let admitted = admit(engine, &RequestHead::received(request))?;
        let site = admitted.site();
        if engine.tier.wants_secret() {
            member.exempt();
        }
        let held = match body {
            RequestBody::Empty => 0,
            RequestBody::Length(length) => length.min(window),
            RequestBody::Unknown => window,
        };
        let holds = Holds::new(&request.fields, held);
        let progress = member.begin(worker.metrics.in_flight(), holds).map_err(|refusal| refusal.at(site))?;
        if matches!(body, RequestBody::Length(length) if length > engine.config.limits.body_bytes) {
            return Err(too_large(site));
        }
        request.normalise(engine, site);
        Ok(Self { worker, admitted, body, progress })
    }

    /// Gets the response to a request, and passes interim responses on. Returns `None` if the client leaves before.
    ///
    /// `upload` is the receiving end of the request body, which `carrier` carries along.
    pub(crate) async fn respond<C: Carrier>(
        &self,
        request: &Request,
        upload: Option<Upload>,
        mut interims: mpsc::Receiver<Arc<Interim>>,
        carrier: &mut C,
    ) -> Option<Passed> {
        let passed = {
            // On the heap: sending the response may take long, and needs none of it.
            let mut work = Box::pin(self.dispatch(request, upload));
            loop {
                let step = std::pin::pin!(async {
                    tokio::select! {
                        biased;
                        Some(interim) = interims.recv() => Err(interim),
                        passed = &mut work => Ok(passed),
                    }
                });
                match carrier.run(step).await? {
                    Ok(passed) => break passed,
                    // The body is on its way already (RFC 9110 §10.1.1).
                    Err(interim) if interim.status == StatusCode::CONTINUE && carrier.has_body_begun() => {}
                    Err(interim) => carrier.send_interim(&interim).await.ok()?,
                }
            }
        };
        // Those that came together with the final response, beside which a 100 says nothing more.
        while let Ok(interim) = interims.try_recv() {
            if interim.status != StatusCode::CONTINUE {
                carrier.send_interim(&interim).await.ok()?;
            }
        }
        Some(passed)
    }

    async fn dispatch(&self, request: &Request, upload: Option<Upload>) -> Passed {
        let engine = &self.worker.engine;
        let is_cacheable = [Method::GET, Method::HEAD].contains(&request.method) && self.body == RequestBody::Empty;
        if is_cacheable && plan::upgrade_of(&request.fields, request.protocol).is_none() {
            Passed::Answer(forward::answer(engine, self.admitted, request).await)
        } else {
            pass::pass(engine, self.admitted, request, upload).await
        }
    }

    /// Releases the memory that the request's fields count for: sending a body may take long, and needs none of them.
    pub(crate) fn release_head(&mut self) {
        self.progress.release_head();
    }

    /// The refusal of a request whose body turns out to be larger than allowed.
    pub(crate) fn too_large(&self) -> Refusal {
        too_large(self.admitted.site())
    }

    /// Outcome of the request if its client has left before its response.
    pub(crate) fn client_gone(&self) -> Outcome {
        let outcome = Outcome::new(Verdict::Error, Some(self.admitted.site()));
        Outcome { reason: Some(Reason::ClientGone), ..outcome }
    }
}

fn too_large(site: SiteId) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLarge).at(site)
}
