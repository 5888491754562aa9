//! Hits in received bytes.

use std::mem::MaybeUninit;
use std::ops::Range;

use nearside_engine::request::Engine;
use nearside_engine::request::hit::{self, Key, Meaning, Plain, meaning};
use nearside_http1::borrowed::Lines;
use nearside_http1::request::lines_end_well;
use nearside_semantics::Timestamp;
use nearside_semantics::key::Scheme;

/// Requests with more fields take the long way.
const FIELDS: usize = 48;

/// A request that can be answered at once. Places are those of the bytes it was found in.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) what: hit::Hit,
    pub(super) method: &'static str,
    pub(super) host: Range<usize>,
    pub(super) target: Range<usize>,
    /// Empty, unless the log names clients.
    pub(super) agent: Range<usize>,
    pub(super) referer: Range<usize>,
    /// The client wants no more on this connection.
    pub(super) closes: bool,
    /// Behind the head.
    pub(super) end: usize,
    /// Where its answer ends among those of its batch.
    pub(super) end_in_batch: u64,
}

/// The hit at the front of what was received, if there is one. `key` is room to work in.
pub(super) fn find(engine: &Engine, input: &[u8], scheme: Scheme, now: Timestamp, key: &mut Key) -> Option<Hit> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(end)) = request.parse_with_uninit_headers(input, &mut lines) else {
        return None;
    };
    let limits = &engine.config.limits;
    let head = input.get(..end).filter(|head| head.len() <= limits.head_bytes && lines_end_well(head))?;
    if request.version != Some(1) || request.headers.len() > limits.fields {
        return None;
    }
    let method = ["GET", "HEAD"].into_iter().find(|method| request.method == Some(method))?;
    let target = request.path?.as_bytes();
    let Asked { host, selects, closes } = Asked::of(request.headers, engine)?;
    let head_only = method == "HEAD";
    let plain = Plain { head_only, scheme, host, target, fields: &Lines(request.headers), selects };
    let what = hit::find(engine, &plain, now, key)?;
    let (agent, referer) = if engine.config.access_log.names_clients() {
        let said = |name: &str| {
            let line = request.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
            line.map_or(0..0, |line| place(head, line.value))
        };
        (said("user-agent"), said("referer"))
    } else {
        (0..0, 0..0)
    };
    let (host, target) = (place(head, host), place(head, target));
    Some(Hit { what, method, host, target, agent, referer, closes, end, end_in_batch: 0 })
}

/// Where a part of `whole` stands in it.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

/// What the fields of a request say that matters here.
struct Asked<'b> {
    host: &'b [u8],
    selects: bool,
    closes: bool,
}

impl<'b> Asked<'b> {
    /// `None` if there is a field that may change more than that.
    fn of(fields: &[httparse::Header<'b>], engine: &Engine) -> Option<Self> {
        let (mut host, mut selects, mut closes) = (None, false, false);
        for field in fields {
            match meaning(engine, field.name, field.value) {
                Meaning::None => {}
                Meaning::Host if host.is_none() => host = Some(field.value),
                Meaning::Selects => selects = true,
                Meaning::Closes => closes = true,
                Meaning::Host | Meaning::Other => return None,
            }
        }
        Some(Self { host: host?, selects, closes })
    }
}
