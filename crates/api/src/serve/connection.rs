//! One connection, and the requests on it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nearside_protocol::Problem;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::body::Entrance;
use super::progress::{Phase, Progress, WatchedSocket};
use super::shares::Share;
use super::{Office, UNPROVEN_BYTES_MAX, socket};

/// Why a connection ends.
enum Ending {
    /// By itself.
    Done,
    /// A deadline has passed.
    Overdue,
}

/// Serves a connection until its end.
pub(super) async fn serve(office: Arc<Office>, socket: TcpStream, peer: SocketAddr, share: Share) {
    let progress = Progress::new();
    let watched = WatchedSocket { socket, progress: Arc::clone(&progress) };
    let share = Arc::new(Mutex::new(share));
    let service = service_fn(|request: Request<Incoming>| {
        let (office, progress, share) = (Arc::clone(&office), Arc::clone(&progress), Arc::clone(&share));
        progress.set(Phase::Request(Instant::now()));
        Box::pin(async move { Ok::<_, Infallible>(office.answer(request, peer, share, progress).await) })
    });
    let mut server = http1::Builder::new();
    // Heads have a deadline of their own. What has come of a body together with its head is in this buffer, too.
    server.header_read_timeout(None::<Duration>).max_buf_size(UNPROVEN_BYTES_MAX);
    let mut connection = server.serve_connection(TokioIo::new(watched), service);
    let mut leaving = office.leaving.clone();
    let mut is_leaving = false;
    let ending = loop {
        tokio::select! {
            _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break Ending::Done,
            () = progress.overdue(&office.limits) => break Ending::Overdue,
            _ = leaving.wait_for(|leaving| *leaving), if !is_leaving => {
                is_leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let socket = connection.into_parts().io.into_inner().socket;
    match ending {
        Ending::Done => socket::end(socket, None).await,
        Ending::Overdue => {
            office.counts.overdue.fetch_add(1, Ordering::Relaxed);
            let late = || {
                let detail = format!("no request head has come within {} s", office.limits.head.as_secs_f64());
                Problem::new(StatusCode::REQUEST_TIMEOUT, "head-timeout", detail)
            };
            if progress.is_in_head() {
                socket::end(socket, Some(&late())).await;
            }
        }
    }
    drop(share);
    office.counts.open.store(office.connections.taken() as u64, Ordering::Relaxed);
}

impl Office {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        share: Arc<Mutex<Share>>,
        progress: Arc<Progress>,
    ) -> Response {
        let place = match self.take(&self.requests, peer.ip(), "requests in progress") {
            Ok(place) => place,
            Err(problem) => return leaving(problem.into_response(), progress, None),
        };
        let mut request = request.map(Body::new);
        let entrance = Entrance { share, large_bodies: Arc::clone(&self.large_bodies), body_time: self.limits.body };
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(entrance);
        let response = timeout(self.limits.request, self.routes.clone().oneshot(request)).await;
        let response = match response {
            Ok(Ok(response)) => response,
            Err(_elapsed) => {
                let detail = format!("no response was ready within {} s", self.limits.request.as_secs_f64());
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "deadline", detail).into_response()
            }
        };
        if response.body().size_hint().exact().is_some() {
            return leaving(response, progress, Some(place));
        }
        drop(place);
        match self.take(&self.streams, peer.ip(), "streams") {
            Ok(place) => {
                progress.set(Phase::Stream);
                leaving(response, progress, Some(place))
            }
            Err(problem) => leaving(problem.into_response(), progress, None),
        }
    }
}

/// A response whose end is noted.
fn leaving(response: Response, progress: Arc<Progress>, place: Option<Share>) -> Response {
    response.map(|body| Body::new(Leaving { body, progress, _place: place }))
}

/// A response body that holds the place of its request until it has been handed over.
struct Leaving {
    body: Body,
    progress: Arc<Progress>,
    _place: Option<Share>,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.progress.set(Phase::Idle(Instant::now()));
    }
}
