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

#[cfg(test)]
mod tests {
    use nearside_store::Body;

    use super::*;

    const ALL: u64 = u64::MAX;

    fn body(text: &'static str) -> BodyReader {
        Body::complete(Bytes::from_static(text.as_bytes()), None).reader(0).unwrap()
    }

    /// What is read, up to `limit` bytes of a body at a time, and how it ended.
    fn read_all(parts: &mut Parts, limit: u64) -> (String, Read) {
        let mut list = Vec::new();
        loop {
            match parts.poll(limit, &mut list) {
                Read::Chunks => {}
                end => return (String::from_utf8(list.concat()).unwrap(), end),
            }
        }
    }

    #[test]
    fn texts_and_parts_come_in_their_order_and_no_part_is_longer_than_was_asked_for() {
        for limit in [1, 3, ALL] {
            let mut parts = Parts::default();
            parts.push_text("--a\r\n".to_owned());
            parts.push_span(body("hello world"), 5);
            parts.push_text("\r\n--b\r\n".to_owned());
            parts.push_span(body("more"), 4);
            parts.push_text("--end".to_owned());
            assert_eq!(parts.length(), 5 + 5 + 7 + 4 + 5);
            assert_eq!(
                read_all(&mut parts, limit),
                ("--a\r\nhello\r\n--b\r\nmore--end".to_owned(), Read::End),
                "{limit}"
            );
        }
    }

    #[test]
    fn a_body_that_ends_before_its_part_does_is_cut() {
        let mut parts = Parts::default();
        parts.push_span(body("hell"), 5);
        parts.push_text("--end".to_owned());
        assert_eq!(read_all(&mut parts, ALL), ("hell".to_owned(), Read::Cut));
    }

    #[test]
    fn only_a_body_can_be_read_from_another_byte_on() {
        let parts = || AnswerReader::Parts(Parts::default());
        assert!(parts().skip_to(0).is_some() && parts().skip_to(1).is_none());
        let mut list = Vec::new();
        let mut body = AnswerReader::Body(body("hello")).skip_to(3).unwrap();
        assert_eq!((body.poll(ALL, &mut list), list.concat()), (Read::Chunks, b"lo".to_vec()));
    }
}
