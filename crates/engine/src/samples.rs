//! Sample values for the unit tests of this crate.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_config::{Site, SiteId, SiteTimeouts, Timeouts};
use nearside_semantics::Timestamp;
use nearside_semantics::age::Exchange;
use nearside_semantics::key::Scheme;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::vary::Vary;
use nearside_store::{Body, Entry, Head, Membership};
use nearside_telemetry::record::Client;
use nearside_telemetry::trace::Trace;
use nearside_upstream::client_network::ClientNetwork;
use nearside_upstream::interim::Interims;
use nearside_upstream::{Forward, Patience, Urgency};

use crate::fill::Plan;
use crate::request::Request;
use crate::request::key::{CacheKey, LookupKey, UrlKey};
use crate::site::Rules;

/// The moment at which responses of the samples arrive.
pub(crate) const ARRIVAL: Timestamp = Timestamp::from_secs(1_000_000);

/// `ARRIVAL`, so many seconds later.
pub(crate) fn later(seconds: u64) -> Timestamp {
    ARRIVAL.after(Duration::from_secs(seconds))
}

/// Fields with these names and values.
pub(crate) fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    fields
}

/// A status by its number.
pub(crate) fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap()
}

/// A site that answers for one host, with lawful defaults.
pub(crate) fn site(name: &str, host: &str) -> Site {
    Site::new(name, vec![host.parse().unwrap()], vec!["http://127.0.0.1:9".parse().unwrap()])
}

/// The rules of a site as `change` leaves it.
pub(crate) fn rules(change: impl FnOnce(&mut Site)) -> Rules {
    let mut site = site("shop", "a.org");
    change(&mut site);
    Rules::new(&site, &Timeouts::default())
}

/// The key of a URL for which no rule about queries is known.
pub(crate) fn key(exact: &[u8]) -> CacheKey {
    CacheKey { url: UrlKey::new(exact), lookup: LookupKey::new(exact), rule: None, block: None }
}

/// The plan of a fill for `http://a.org/p`, for a request with these fields. Nothing is stored.
pub(crate) fn plan(method: Method, request: &[(&'static str, &str)]) -> Plan {
    let request = fields(request);
    let forward = Forward {
        method,
        target: (*b"/p").into(),
        authority: HeaderValue::from_static("a.org"),
        origin_host: None,
        fields: request.clone(),
        urgency: Urgency::Client,
        network: ClientNetwork::from_address(Ipv4Addr::LOCALHOST.into()),
        patience: Patience::new(&Timeouts::default(), &SiteTimeouts::default()),
    };
    Plan {
        site: SiteId::new(0),
        key: key(b"http\na.org\n/p"),
        forward,
        stored: None,
        request,
        own_location: false,
        background: false,
    }
}

/// The exchange of a response that arrives at once.
pub(crate) const EXCHANGE: Exchange =
    Exchange { request_time: ARRIVAL, response_time: ARRIVAL, response_date: ARRIVAL };

/// The life of a response that is fresh for some seconds, and may then be served in place of an error for some more.
pub(crate) fn life(fresh: u64, on_error: u64) -> Freshness {
    Freshness {
        born: ARRIVAL,
        fresh_until: later(fresh),
        revalidate_until: later(fresh),
        error_until: later(fresh + on_error),
        no_cache: false,
        never_stale: false,
    }
}

/// A head with these fields.
pub(crate) fn head(number: u16, lines: &[(&'static str, &str)]) -> Head {
    Head { status: status(number), fields: fields(lines), wire: Bytes::new() }
}

/// A stored response with this head, which answers every request.
pub(crate) fn entry(head: Head, declared: Freshness) -> Arc<Entry> {
    Arc::new(Entry {
        head: Arc::new(head),
        declared,
        response_time: ARRIVAL,
        retain_until: Timestamp::MAX,
        vary: Vary::None,
        variant: Box::default(),
        groups: Membership::default(),
        body: Body::complete(Bytes::from_static(b"hello"), None),
    })
}

/// A request of a client for `http://a.org/p` with these fields.
pub(crate) fn request(method: Method, lines: &[(&'static str, &str)]) -> Request {
    let fields = fields(lines);
    let trace = Trace::of(&fields, 1);
    Request {
        method,
        scheme: Scheme::Http,
        authority: HeaderValue::from_static("a.org"),
        target: Bytes::from_static(b"/p"),
        protocol: nearside_telemetry::Protocol::Http11,
        fields,
        client: Client::new(([192, 0, 2, 1], 0).into()),
        trace,
        interims: Interims::none(),
        block: None,
        signed_as_sent: Vec::new(),
    }
}
