//! The body of a request on its way to the next hop.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::h1::write;

/// Pieces that wait for the next hop at one time; a client that sends faster is held to its pace.
const PIECES_MAX: usize = 8;

/// A part of a request body.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    /// The body is whole.
    End(HeaderMap),
}

/// A request body that arrives piece by piece.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None`: chunked.
    length: Option<u64>,
    pieces: mpsc::Receiver<Piece>,
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
    pub(crate) fn new(length: Option<u64>) -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        (sender, Self { length, pieces })
    }

    /// A body without bytes.
    pub(crate) fn empty() -> Self {
        let (sender, upload) = Self::new(Some(0));
        let _ = sender.try_send(Piece::End(HeaderMap::new()));
        upload
    }

    /// Whether the body has no bytes. Waits for the first piece where only that shows it.
    pub(crate) async fn is_empty(&mut self) -> bool {
        match self.length {
            Some(1..) => false,
            Some(0) | None => matches!(self.pieces.recv().await, Some(Piece::End(_))),
        }
    }

    /// Whether its head says that it has no bytes.
    pub(crate) fn is_stated_empty(&self) -> bool {
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
            let Some(piece) = self.pieces.recv().await else { return UploadEnd::ClientGone };
            let last = matches!(piece, Piece::End(_));
            wire.clear();
            self.encode(piece, &mut wire);
            let written = tokio::time::timeout(stall, async {
                writer.write_all(&wire).await?;
                writer.flush().await
            });
            match written.await {
                Ok(Ok(())) if last => return UploadEnd::Whole,
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return UploadEnd::Refused,
            }
        }
    }

    fn encode(&self, piece: Piece, wire: &mut Vec<u8>) {
        match (piece, self.length) {
            (Piece::Data(data), Some(_)) => wire.extend_from_slice(&data),
            (Piece::Data(data), None) => {
                write::chunk_size(data.len(), wire);
                wire.extend_from_slice(&data);
                wire.extend_from_slice(b"\r\n");
            }
            (Piece::End(_), Some(_)) => {}
            (Piece::End(trailers), None) => write::last_chunk(&trailers, wire),
        }
    }
}

/// The task that sends a request; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sending {
    task: JoinHandle<(WriteHalf<Stream>, UploadEnd)>,
    ended: Option<(Option<WriteHalf<Stream>>, UploadEnd)>,
}

impl Sending {
    pub(crate) fn start(mut writer: WriteHalf<Stream>, head: Vec<u8>, mut upload: Upload, stall: Duration) -> Self {
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
        Self { task, ended: None }
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
