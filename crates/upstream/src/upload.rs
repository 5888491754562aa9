//! The body of a request on its way to the next hop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use nearside_http1::framing::BodyEvent;
use nearside_http1::write;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::trailers::strip_of_request;

/// Pieces that wait for the next hop at one time; a client that sends faster is held to its pace.
const PIECES_MAX: usize = 8;

/// Bytes of a body that are gathered before a place at the origin is taken for it; most bodies are smaller.
const GATHERED_MAX: u64 = 64 << 10;
/// Longest wait for as much of a body of unknown length: such a client may send the rest only after it has got some of
/// the response.
const GATHER_MAX: Duration = Duration::from_secs(10);

/// A request body that arrives piece by piece.
#[derive(Debug)]
pub struct Upload {
    /// `None`: chunked.
    length: Option<u64>,
    pieces: mpsc::Receiver<BodyEvent>,
    /// What was gathered before a place was taken.
    gathered: BytesMut,
    /// What comes behind that, if the body has ended already.
    trailers: Option<HeaderMap>,
    meter: Arc<UploadMeter>,
}

/// Progress of sending a request body.
#[derive(Debug, Default)]
pub struct UploadMeter {
    begun: AtomicBool,
    sent: AtomicU64,
    awaits_client: AtomicBool,
}

impl UploadMeter {
    /// Whether any of the request was sent to the next hop.
    pub fn has_begun(&self) -> bool {
        // Relaxed, here and below: the numbers guard nothing else.
        self.begun.load(Ordering::Relaxed)
    }

    /// Bytes that were sent so far, if it is the client that holds up the rest.
    pub(crate) fn awaits_client(&self) -> Option<u64> {
        self.awaits_client.load(Ordering::Relaxed).then(|| self.sent.load(Ordering::Relaxed))
    }
}

/// How sending a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadEnd {
    /// All of it was sent.
    Whole,
    /// The client went away, or sent something that is no body.
    ClientGone,
    /// The next hop took no more.
    Refused,
}

impl Upload {
    /// A body of this length, or chunked, and where its pieces go in.
    pub fn new(length: Option<u64>) -> (mpsc::Sender<BodyEvent>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let upload = Self { length, pieces, gathered: BytesMut::new(), trailers: None, meter: Arc::default() };
        (sender, upload)
    }

    /// Progress of sending this body.
    pub fn meter(&self) -> Arc<UploadMeter> {
        Arc::clone(&self.meter)
    }

    /// Receives the whole of a small body, or the beginning of a larger one. [`UploadEnd::ClientGone`] if the client has
    /// left by then; else [`UploadEnd::Whole`], whether there is more or not.
    pub(crate) async fn gather(&mut self) -> UploadEnd {
        let is_known = self.length.is_some();
        let gather = async {
            while self.trailers.is_none() && (self.gathered.len() as u64) < GATHERED_MAX {
                match self.pieces.recv().await {
                    Some(BodyEvent::Data(data)) => self.gathered.extend_from_slice(&data),
                    Some(BodyEvent::End(trailers)) => self.trailers = Some(trailers),
                    None => return UploadEnd::ClientGone,
                }
            }
            UploadEnd::Whole
        };
        if is_known {
            return gather.await;
        }
        tokio::time::timeout(GATHER_MAX, gather).await.unwrap_or(UploadEnd::Whole)
    }

    /// The next piece; `None` if the client has left.
    async fn next(&mut self) -> Option<BodyEvent> {
        if !self.gathered.is_empty() {
            return Some(BodyEvent::Data(std::mem::take(&mut self.gathered).freeze()));
        }
        if let Some(trailers) = self.trailers.take() {
            return Some(BodyEvent::End(trailers));
        }
        self.meter.awaits_client.store(true, Ordering::Relaxed);
        let piece = self.pieces.recv().await;
        self.meter.awaits_client.store(false, Ordering::Relaxed);
        piece
    }

    /// A body without bytes.
    pub fn empty() -> Self {
        let (sender, upload) = Self::new(Some(0));
        let _ = sender.try_send(BodyEvent::End(HeaderMap::new()));
        upload
    }

    /// Whether the body has no bytes. Waits for the first piece where only that shows it.
    pub async fn is_empty(&mut self) -> bool {
        match self.length {
            Some(1..) => false,
            Some(0) | None => matches!(self.pieces.recv().await, Some(BodyEvent::End(_))),
        }
    }

    /// Whether its head says that it has no bytes.
    pub fn is_stated_empty(&self) -> bool {
        self.length == Some(0)
    }

    /// The field that frames the body.
    pub(crate) fn write_framing(&self, out: &mut Vec<u8>) {
        match self.length {
            Some(length) => write::number(CONTENT_LENGTH.as_str(), length, out),
            None => write::field(TRANSFER_ENCODING.as_str(), b"chunked", out),
        }
    }

    async fn send(&mut self, writer: &mut WriteHalf<Stream>, stall: Duration) -> UploadEnd {
        let mut wire = Vec::new();
        loop {
            let Some(piece) = self.next().await else { return UploadEnd::ClientGone };
            let last = matches!(piece, BodyEvent::End(_));
            let size = if let BodyEvent::Data(data) = &piece { data.len() as u64 } else { 0 };
            wire.clear();
            self.encode(piece, &mut wire);
            let written = tokio::time::timeout(stall, async {
                writer.write_all(&wire).await?;
                writer.flush().await
            });
            match written.await {
                Ok(Ok(())) if last => return UploadEnd::Whole,
                Ok(Ok(())) => {
                    self.meter.sent.fetch_add(size, Ordering::Relaxed);
                }
                Ok(Err(_)) | Err(_) => return UploadEnd::Refused,
            }
        }
    }

    fn encode(&self, piece: BodyEvent, wire: &mut Vec<u8>) {
        match (piece, self.length) {
            (BodyEvent::Data(data), Some(_)) => wire.extend_from_slice(&data),
            (BodyEvent::Data(data), None) => {
                write::chunk_size(data.len(), wire);
                wire.extend_from_slice(&data);
                wire.extend_from_slice(b"\r\n");
            }
            (BodyEvent::End(_), Some(_)) => {}
            (BodyEvent::End(mut trailers), None) => {
                strip_of_request(&mut trailers);
                write::last_chunk(&trailers, wire);
            }
        }
    }
}

/// The task that sends a request; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sending {
    task: JoinHandle<(WriteHalf<Stream>, UploadEnd)>,
    ended: Option<(Option<WriteHalf<Stream>>, UploadEnd)>,
    meter: Arc<UploadMeter>,
}

impl Sending {
    pub(crate) fn start(mut writer: WriteHalf<Stream>, head: Vec<u8>, mut upload: Upload, stall: Duration) -> Self {
        let meter = upload.meter();
        meter.begun.store(true, Ordering::Relaxed);
        let task = tokio::spawn(async move {
            let written = tokio::time::timeout(stall, async {
                writer.write_all(&head).await?;
                writer.flush().await
            });
            let end = match written.await {
                Ok(Ok(())) => upload.send(&mut writer, stall).await,
                Ok(Err(_)) | Err(_) => UploadEnd::Refused,
            };
            (writer, end)
        });
        Self { task, ended: None, meter }
    }

    pub(crate) fn meter(&self) -> Arc<UploadMeter> {
        Arc::clone(&self.meter)
    }

    /// Waits for the end.
    pub(crate) async fn end(&mut self) -> UploadEnd {
        if self.ended.is_none() {
            let ended = match (&mut self.task).await {
                Ok((writer, end)) => (Some(writer), end),
                Err(_panicked) => (None, UploadEnd::Refused),
            };
            self.ended = Some(ended);
        }
        self.ended.as_ref().map_or(UploadEnd::Refused, |(_, end)| *end)
    }

    /// The writing half, if all was sent already.
    pub(crate) async fn take(&mut self) -> Option<WriteHalf<Stream>> {
        if self.ended.is_none() && !self.task.is_finished() {
            return None;
        }
        match self.end().await {
            UploadEnd::Whole => self.ended.take().and_then(|(writer, _)| writer),
            UploadEnd::ClientGone | UploadEnd::Refused => None,
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}
