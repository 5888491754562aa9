//! The bytes of an answer: a body from a cursor on, or several parts of it (RFC 9110 §14.6).

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use nearside_store::{BodyReader, Read};

use super::slices::Blocks;

/// What an answer is read from.
#[derive(Debug)]
pub enum AnswerReader {
    /// A stored body, or one that is arriving.
    Body(BodyReader),
    /// Several ranges of a body, as `multipart/byteranges`.
    Parts(Parts),
    /// A body that is stored in blocks.
    Blocks(Box<Blocks>),
}

/// Parts of a body, with text before each and at the end.
#[derive(Debug, Default)]
pub struct Parts {
    pieces: VecDeque<Piece>,
    length: u64,
}

#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Span { reader: BodyReader, left: u64 },
}

impl Parts {
    pub(crate) fn push_text(&mut self, text: String) {
        self.length += text.len() as u64;
        self.pieces.push_back(Piece::Text(text.into()));
    }

    pub(crate) fn push_span(&mut self, reader: BodyReader, length: u64) {
        self.length += length;
        self.pieces.push_back(Piece::Span { reader, left: length });
    }

    /// The bytes of all parts together.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// As [`BodyReader::poll`]; a text counts as nothing, it is short.
    fn poll(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        match self.pieces.front_mut() {
            None => Read::End,
            Some(Piece::Text(text)) => {
                list.push(std::mem::take(text));
                self.pieces.pop_front();
                Read::Chunks
            }
            Some(Piece::Span { reader, left }) => {
                let before = list.len();
                let read = reader.poll(limit.min(*left), list);
                let read = self.took(read, list.get(before..).unwrap_or_default());
                if read == Read::End { Read::Cut } else { read }
            }
        }
    }

    async fn read(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        let read = self.poll(limit, list);
        let (Read::Pending, Some(Piece::Span { reader, left })) = (read, self.pieces.front_mut()) else { return read };
        let before = list.len();
        let read = reader.read(limit.min(*left), list).await;
        let read = self.took(read, list.get(before..).unwrap_or_default());
        // A body that ends before its parts do was not what it said.
        if read == Read::End { Read::Cut } else { read }
    }

    /// Counts what was read of the first part.
    fn took(&mut self, read: Read, chunks: &[Bytes]) -> Read {
        if let Some(Piece::Span { left, .. }) = self.pieces.front_mut() {
            *left = left.saturating_sub(chunks.iter().map(|chunk| chunk.len() as u64).sum());
            if *left == 0 {
                self.pieces.pop_front();
            }
        }
        read
    }
}

impl AnswerReader {
    /// As [`BodyReader::poll`].
    pub fn poll(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        match self {
            Self::Body(reader) => reader.poll(limit, list),
            Self::Parts(parts) => parts.poll(limit, list),
            Self::Blocks(blocks) => blocks.poll(limit, list),
        }
    }

    /// As [`BodyReader::trailers`]; parts and blocks have none.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Body(reader) => reader.trailers(),
            Self::Parts(_) | Self::Blocks(_) => None,
        }
    }

    /// As [`BodyReader::read`].
    pub async fn read(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        match self {
            Self::Body(reader) => reader.read(limit, list).await,
            Self::Parts(parts) => parts.read(limit, list).await,
            Self::Blocks(blocks) => blocks.read(limit, list).await,
        }
    }

    /// The same body from `start` on, before anything was read; `None` if it does not reach so far back any more.
    pub(crate) fn skip_to(self, start: u64) -> Option<Self> {
        match self {
            Self::Body(reader) => reader.from(start).map(Self::Body),
            other => (start == 0).then_some(other),
        }
    }
}
