//! Request bodies, which are read only as far as their sender has shown that it may send them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use nearside_protocol::Problem;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::shares::Share;
use crate::access::Holder;
use crate::routes::understood;

/// Bytes of a body that are read of a client that has shown nothing yet, a signature of the body included.
pub const UNPROVEN_BYTES_MAX: usize = 64 << 10;
/// Time for a body where no server says otherwise.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The way in that a request has taken.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    pub(super) share: Arc<Mutex<Share>>,
    pub(super) large_bodies: Arc<Semaphore>,
    pub(super) body_time: Duration,
}

/// A request body that has not been read yet, so that it can be refused without being read.
#[derive(Debug)]
pub struct UnreadBody(Request);

impl<S: Sync> FromRequest<S> for UnreadBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request))
    }
}

impl UnreadBody {
    /// Reads JSON that an admitted holder has sent.
    ///
    /// # Errors
    ///
    /// It is none, or of another shape, or larger than `bytes_max`, or late; or too many large ones are being read.
    pub async fn json<T: DeserializeOwned>(self, _: Holder<'_>, bytes_max: usize) -> Result<T, Problem> {
        let entrance = self.0.extensions().get::<Entrance>().cloned();
        if let Some(entrance) = &entrance {
            entrance.share.lock().exempt();
        }
        let (head, body) = self.0.into_parts();
        let is_large = body.size_hint().upper().is_none_or(|bytes| bytes > UNPROVEN_BYTES_MAX as u64);
        let time = entrance.as_ref().map_or(BODY_TIME, |entrance| entrance.body_time);
        let _permit = match entrance.as_ref().filter(|_| is_large) {
            Some(entrance) => timeout(time, entrance.large_bodies.acquire()).await.map_err(|_elapsed| busy())?.ok(),
            None => None,
        };
        let body = timeout(time, whole(body, bytes_max)).await.unwrap_or_else(|_elapsed| Err(late(time)))?;
        let mut request = Request::from_parts(head, body.into());
        DefaultBodyLimit::disable().apply(&mut request);
        understood(Json::from_request(request, &()).await)
    }

    /// Reads a body that has to show by itself that it is right, as by a signature: up to [`UNPROVEN_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// It is larger, or late.
    pub async fn unproven(self) -> Result<Bytes, Problem> {
        let time = self.0.extensions().get::<Entrance>().map_or(BODY_TIME, |entrance| entrance.body_time);
        let read = whole(self.0.into_body(), UNPROVEN_BYTES_MAX);
        timeout(time, read).await.unwrap_or_else(|_elapsed| Err(late(time)))
    }
}

async fn whole(body: axum::body::Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    to_bytes(body, bytes_max).await.map_err(|error| match is_limit(&error) {
        true => too_large(),
        false => Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body cannot be read: {error}")),
    })
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause = Some(error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn busy() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many large bodies are being read: try again later")
}

fn late(time: Duration) -> Problem {
    let detail = format!("the body has not come within {} s", time.as_secs_f64());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail)
}
