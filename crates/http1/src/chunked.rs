//! The chunked coding (RFC 9112 §7.1), decoded strictly.
//!
//! **Invariant:** the body ends only with a last chunk of size zero, its trailers and the final empty line. A size
//! line that is empty, not hexadecimal, too long or not ended by CRLF is an error.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest size line with its extensions, and the longest trailer section.
const LINE_BYTES_MAX: usize = 4096;
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Chunks that are smaller are gathered, as far as they have arrived: what is done for each piece costs more than the copy.
const SMALL_BYTES: usize = 4096;
/// What is gathered at most.
const GATHERED_BYTES: usize = 16 * 1024;
/// The longest size line of a chunk that is gathered; longer ones are looked at with more care.
const SHORT_LINE_BYTES: usize = 32;

/// What the decoder makes of the bytes it is given.
#[derive(Debug)]
pub(crate) enum Step {
    /// A piece of the body.
    Data(Bytes),
    /// More bytes are needed.
    More,
    /// The body has ended; what follows in the buffer is not part of it.
    End(HeaderMap),
}

/// The coding is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked coding is broken")]
pub struct Broken;

/// A decoder for one body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// White space before the colon of a trailer is removed: in responses only (RFC 9112 §5.1).
    trims_names: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

impl Decoder {
    /// A decoder for the body of a response.
    pub(crate) fn of_response() -> Self {
        Self { trims_names: true, ..Self::default() }
    }

    /// Takes what it can from the front of `buffer`.
    pub(crate) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Broken> {
        loop {
            match self.state {
                State::Size => match take_line(buffer, LINE_BYTES_MAX)? {
                    Some(line) => match size_of(&line)? {
                        0 => self.state = State::Trailers,
                        size => self.state = State::Data(size),
                    },
                    None => return Ok(Step::More),
                },
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Step::More);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    if take < SMALL_BYTES && follows(buffer.get(take..).unwrap_or_default()).is_some() {
                        return Ok(Step::Data(self.gather(take, buffer)));
                    }
                    let rest = left - take as u64;
                    self.state = if rest == 0 { State::DataEnd } else { State::Data(rest) };
                    return Ok(Step::Data(buffer.split_to(take).freeze()));
                }
                State::DataEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        let _ = buffer.split_to(2);
                        self.state = State::Size;
                    }
                    Some(_) => return Err(Broken),
                    None => return Ok(Step::More),
                },
                State::Trailers => {
                    let Some(trailers) = take_trailers(buffer, self.trims_names)? else { return Ok(Step::More) };
                    self.state = State::Ended;
                    return Ok(Step::End(trailers));
                }
                State::Ended => return Ok(Step::End(HeaderMap::new())),
            }
        }
    }
}

impl Decoder {
    /// Takes the rest of a chunk, which are the first `size` bytes of `buffer`, and the small chunks behind it that are whole.
    /// It leaves off where anything is unusual.
    fn gather(&mut self, mut size: usize, buffer: &mut BytesMut) -> Bytes {
        let mut gathered = BytesMut::with_capacity(buffer.len().min(GATHERED_BYTES));
        let mut end = 0;
        loop {
            gathered.extend_from_slice(buffer.get(end..end + size).unwrap_or_default());
            end += size;
            let rest = buffer.get(end..).unwrap_or_default();
            let Some((next, line)) = follows(rest) else { break };
            let is_whole = rest.len() >= line + next;
            if next == 0 || next >= SMALL_BYTES || !is_whole || gathered.len() + next > GATHERED_BYTES {
                break;
            }
            end += line;
            size = next;
        }
        let _ = buffer.split_to(end);
        self.state = State::DataEnd;
        gathered.freeze()
    }
}

/// The size of the next chunk behind the data of one, and how many bytes stand before its own; `None` unless all of that is
/// there and plain.
fn follows(rest: &[u8]) -> Option<(usize, usize)> {
    let line = rest.strip_prefix(b"\r\n")?;
    let window = line.get(..SHORT_LINE_BYTES).unwrap_or(line);
    let feed = window.iter().position(|byte| *byte == b'\n')?;
    let digits = window.get(..feed)?.strip_suffix(b"\r")?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let size = digits.iter().try_fold(0, |size, digit| Some(size * 16 + char::from(*digit).to_digit(16)? as usize))?;
    Some((size, feed + 3))
}

/// A line without its CRLF, once all of it is there.
fn take_line(buffer: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, Broken> {
    let Some(feed) = buffer.iter().position(|b| *b == b'\n') else {
        return if buffer.len() > max { Err(Broken) } else { Ok(None) };
    };
    let mut line = buffer.split_to(feed + 1);
    if feed > max || !line.ends_with(b"\r\n") {
        return Err(Broken);
    }
    line.truncate(feed - 1);
    if line.contains(&b'\r') { Err(Broken) } else { Ok(Some(line)) }
}

/// `1*HEXDIG [ chunk-ext ]`
fn size_of(line: &[u8]) -> Result<u64, Broken> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at_checked(end).ok_or(Broken)?;
    let extension = rest.trim_ascii_start();
    if digits.is_empty() || digits.len() > 15 || !(extension.is_empty() || extension.starts_with(b";")) {
        return Err(Broken);
    }
    let hex = std::str::from_utf8(digits).map_err(|_no_utf8| Broken)?;
    u64::from_str_radix(hex, 16).map_err(|_no_number| Broken)
}

fn take_trailers(buffer: &mut BytesMut, trims_names: bool) -> Result<Option<HeaderMap>, Broken> {
    let end = if buffer.starts_with(b"\r\n") {
        2
    } else {
        match buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            Some(at) => at + 4,
            None if buffer.len() > TRAILER_BYTES_MAX => return Err(Broken),
            None => return Ok(None),
        }
    };
    let mut section = buffer.split_to(end);
    if trims_names {
        section = trimmed(&section);
    }
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&section, &mut lines) else {
        return Err(Broken);
    };
    let mut trailers = HeaderMap::new();
    for line in parsed {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_no_name| Broken)?;
        trailers.append(name, HeaderValue::from_bytes(line.value).map_err(|_no_value| Broken)?);
    }
    Ok(Some(trailers))
}

/// A section of fields without white space before the colons.
fn trimmed(section: &[u8]) -> BytesMut {
    let mut trimmed = BytesMut::with_capacity(section.len());
    for line in section.split_inclusive(|b| *b == b'\n') {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, rest) = line.split_at_checked(colon).unwrap_or((line, b""));
        trimmed.extend_from_slice(if rest.is_empty() { name } else { name.trim_ascii_end() });
        trimmed.extend_from_slice(rest);
    }
    trimmed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body, its trailers and what is left over.
    type Decoded = (Vec<u8>, HeaderMap, Vec<u8>);

    /// Feeds `wire` in pieces of `size` bytes; `None` if it ends too early.
    fn decode(wire: &[u8], size: usize) -> Result<Option<Decoded>, Broken> {
        let (mut decoder, mut buffer, mut body) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut pieces = wire.chunks(size);
        loop {
            match decoder.step(&mut buffer)? {
                Step::Data(bytes) => body.extend_from_slice(&bytes),
                Step::End(trailers) => {
                    let rest = pieces.flatten().copied();
                    return Ok(Some((body, trailers, buffer.iter().copied().chain(rest).collect())));
                }
                Step::More => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    #[test]
    fn chunks_are_joined_however_they_arrive() {
        let wire = b"5\r\nhello\r\n6;name=\"v\"\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
        for size in 1..wire.len() {
            let (body, trailers, rest) = decode(wire, size).unwrap().unwrap();
            assert_eq!((body.as_slice(), rest.as_slice()), (&b"hello world"[..], &b"GET /"[..]), "pieces of {size}");
            assert_eq!(trailers["x-sum"], "1");
        }
    }

    #[test]
    fn small_chunks_that_have_arrived_are_one_piece() {
        let mut wire = b"1\r\na\r\n".repeat(20_000);
        wire.extend_from_slice(b"2000\r\n");
        wire.extend_from_slice(&[b'b'; 0x2000]);
        wire.extend_from_slice(b"\r\n3;x\r\nccc\r\n0\r\n\r\n");
        let (mut decoder, mut buffer, mut pieces) = (Decoder::default(), BytesMut::from(&wire[..]), Vec::new());
        while let Step::Data(bytes) = decoder.step(&mut buffer).unwrap() {
            pieces.push(bytes);
        }
        let lengths: Vec<_> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [GATHERED_BYTES, 20_000 - GATHERED_BYTES, 0x2000, 3]);
        assert_eq!(pieces.concat(), [vec![b'a'; 20_000], vec![b'b'; 0x2000], b"ccc".to_vec()].concat());
        // A chunk that goes on behind what has arrived is not waited for, and what breaks the coding is found after it.
        let mut buffer = BytesMut::from(&b"1\r\na\r\n1\r\nb\r\n5\r\nxy"[..]);
        let mut decoder = Decoder::default();
        let mut piece = |buffer: &mut BytesMut| match decoder.step(buffer) {
            Ok(Step::Data(bytes)) => Some(bytes),
            _ => None,
        };
        assert_eq!(
            [piece(&mut buffer), piece(&mut buffer), piece(&mut buffer)],
            [Some("ab".into()), Some("xy".into()), None]
        );
        buffer.extend_from_slice(b"zzz\r\n1\r\nq\r\n-1\r\n");
        assert_eq!([piece(&mut buffer), piece(&mut buffer)], [Some("zzzq".into()), None]);
        assert!(decoder.step(&mut BytesMut::from(&b"-1\r\n"[..])).is_err());
    }

    #[test]
    fn rfc9112_s5_1_white_space_before_the_colon_of_a_trailer_is_removed_in_responses_only() {
        let wire = || BytesMut::from(&b"0\r\nX-Sum \t: 1\r\nx-b: a : b\r\n\r\nrest"[..]);
        let mut buffer = wire();
        let Ok(Step::End(trailers)) = Decoder::of_response().step(&mut buffer) else { panic!("it is whole") };
        assert_eq!(
            (&trailers["x-sum"], &trailers["x-b"], &buffer[..]),
            (&"1".parse().unwrap(), &"a : b".parse().unwrap(), &b"rest"[..])
        );
        assert!(Decoder::default().step(&mut wire()).is_err());
    }

    #[test]
    fn rfc9112_s7_1_what_is_not_the_coding_is_an_error() {
        let broken: [&[u8]; 10] = [
            b"5\r\nhello\r\n\r\n", // an empty size line is no last chunk
            b"\r\n",
            b"5\nhello\r\n0\r\n\r\n",    // bare line feed
            b"5\r\nhelloX\r\n0\r\n\r\n", // longer than its size
            b"5\r\nhello0\r\n\r\n",
            b"x\r\n",
            b"-5\r\nhello\r\n",
            b"5 x\r\nhello\r\n",
            b"1000000000000000\r\n", // sixteen digits
            b"0\r\nbad trailer\r\n\r\n",
        ];
        for wire in broken {
            assert_eq!(decode(wire, 64).err(), Some(Broken), "{}", String::from_utf8_lossy(wire));
        }
        assert!(decode(b"5\r\nhel", 64).unwrap().is_none(), "an early end is no end");
        assert!(decode(b"5\r\nhello\r\n0\r\n", 64).unwrap().is_none());
    }
}
