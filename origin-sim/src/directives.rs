//! What a request tells the origin to do, in its query.
//!
//! | directive | effect |
//! |---|---|
//! | `cc=VALUE` | `Cache-Control`, as it stands |
//! | `age=N` `etag=TAG` `vary=NAMES` `tag=KEYS` | `Age`, `ETag` (quoted for you), `Vary`, `Surrogate-Key` |
//! | `lm=N` | `Last-Modified` N seconds ago |
//! | `size=N` `seed=N` | bytes of the body (1024), and which ([`crate::body`]); with `vary` also by the fields it names |
//! | `status=N` | the status (200); a request field `X-Status: N` overrides it |
//! | `ttfb=MS` `delay=MS` `rate=N` | wait before the head, between head and body; bytes per second |
//! | `set-cookie[=VALUE]` `header.NAME=VALUE` | a cookie; any other field |
//! | `chunked` `close` | no `Content-Length`; the connection closes after the answer |
//! | `cut=N` `reset=N` | close, or reset, the connection after N bytes of the body |
//! | `hang` `garbage` `wrong-length` | never answer; answer what is no HTTP; send 10 bytes more than stated |
//! | `version[=KEY]` | body and `ETag` by a counter that `POST /_bump?key=KEY` raises; KEY is the path by default |

use std::time::Duration;

/// The directives of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `cc`
    pub cache_control: Option<String>,
    /// `age`
    pub age: Option<String>,
    /// `etag`
    pub etag: Option<String>,
    /// `lm`
    pub modified_ago: Option<u64>,
    /// `vary`
    pub vary: Option<String>,
    /// `tag`
    pub tag: Option<String>,
    /// `size`
    pub size: u64,
    /// `seed`
    pub seed: u64,
    /// `status`
    pub status: u16,
    /// `ttfb`
    pub before_head: Duration,
    /// `delay`
    pub before_body: Duration,
    /// `rate`
    pub rate: Option<u64>,
    /// `set-cookie`
    pub set_cookie: Option<String>,
    /// `header.NAME`
    pub fields: Vec<(String, String)>,
    /// `chunked`
    pub chunked: bool,
    /// `close`
    pub close: bool,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
    /// `version`; the empty key stands for the path
    pub version: Option<String>,
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes after so many bytes of the body.
    Cut(u64),
    /// The connection is reset after so many bytes of the body.
    Reset(u64),
    /// No answer ever comes.
    Hang,
    /// What comes is no HTTP.
    Garbage,
    /// More bytes come than the length states.
    WrongLength,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            cache_control: None,
            age: None,
            etag: None,
            modified_ago: None,
            vary: None,
            tag: None,
            size: 1024,
            seed: 0,
            status: 200,
            before_head: Duration::ZERO,
            before_body: Duration::ZERO,
            rate: None,
            set_cookie: None,
            fields: Vec::new(),
            chunked: false,
            close: false,
            fault: None,
            version: None,
        }
    }
}

impl Directives {
    /// Reads a query. Names that are not directives mean nothing, so that a query can carry noise.
    ///
    /// # Errors
    ///
    /// The directive whose value makes no sense.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut directives = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            directives.add(&unescape(name), unescape(value)).ok_or_else(|| format!("{pair} makes no sense"))?;
        }
        Ok(directives)
    }

    fn add(&mut self, name: &str, value: String) -> Option<()> {
        let number = || value.parse::<u64>().ok();
        match name {
            "cc" => self.cache_control = Some(value),
            "age" => self.age = Some(value),
            "etag" => self.etag = Some(value),
            "lm" => self.modified_ago = Some(number()?),
            "vary" => self.vary = Some(value),
            "tag" => self.tag = Some(value),
            "size" => self.size = number()?,
            "seed" => self.seed = number()?,
            "status" => self.status = value.parse().ok().filter(|status| (200..1000).contains(status))?,
            "ttfb" => self.before_head = Duration::from_millis(number()?),
            "delay" => self.before_body = Duration::from_millis(number()?),
            "rate" => self.rate = Some(number()?.max(1)),
            "set-cookie" => self.set_cookie = Some(if value.is_empty() { "sim=1".to_owned() } else { value }),
            "chunked" => self.chunked = true,
            "close" => self.close = true,
            "cut" => self.fault = Some(Fault::Cut(number()?)),
            "reset" => self.fault = Some(Fault::Reset(number()?)),
            "hang" => self.fault = Some(Fault::Hang),
            "garbage" => self.fault = Some(Fault::Garbage),
            "wrong-length" => self.fault = Some(Fault::WrongLength),
            "version" => self.version = Some(value),
            _ => {
                if let Some(field) = name.strip_prefix("header.") {
                    self.fields.push((field.to_owned(), value));
                }
            }
        }
        Some(())
    }
}

/// `%XX` and `+` as they mean in a query.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(escaped)) => {
                plain.push(escaped);
                at += 2;
            }
            (b'+', _) => plain.push(b' '),
            (byte, _) => plain.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_to_do() {
        let read = Directives::parse("cc=max-age%3D60,+public&size=10&header.X-A=b&noise=1&cut=5").unwrap();
        assert_eq!(read.cache_control.as_deref(), Some("max-age=60, public"));
        assert_eq!((read.size, read.fault), (10, Some(Fault::Cut(5))));
        assert_eq!(read.fields, [("X-A".to_owned(), "b".to_owned())]);
        assert!(Directives::parse("size=many").is_err() && Directives::parse("status=99").is_err());
    }
}
