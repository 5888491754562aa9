//! Heads of an exchange: the request as an upstream gets it, and the kinds of response heads.

use http::{HeaderValue, StatusCode};
use nearside_http1::write;

use crate::fields::{PURGES, REFRESH, SECRET};
use crate::{Forward, Urgency};

/// Fields of a request that are for shields only.
#[derive(Debug)]
pub(super) struct ForShield<'s> {
    pub(super) secret: Option<&'s HeaderValue>,
    /// The purges that are known here.
    pub(super) purges: Option<String>,
}

/// Writes the request line and the fields, without the empty line. `shield` is `None` for an origin.
pub(super) fn write_head(forward: &Forward, shield: Option<&ForShield<'_>>, out: &mut Vec<u8>) {
    // A shield decides by itself which host origins see.
    let host = forward.origin_host.as_ref().filter(|_| shield.is_none()).unwrap_or(&forward.authority);
    write::request(&forward.method, &forward.target, host.as_bytes(), &forward.fields, out);
    let Some(ForShield { secret, purges }) = shield else { return };
    if let Some(secret) = secret {
        write::field(SECRET.as_str(), secret.as_bytes(), out);
    }
    if forward.urgency == Urgency::Refresh {
        write::field(REFRESH.as_str(), b"1", out);
    }
    if let Some(known) = purges {
        write::field(PURGES.as_str(), known.as_bytes(), out);
    }
}

/// Kind of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadKind {
    /// The response itself.
    Final,
    /// An interim response, behind which another head comes.
    Interim,
    /// A change of protocols that nobody has asked for: what follows is no HTTP.
    Unasked,
}

impl HeadKind {
    /// The kind of a head with this status.
    pub(super) fn new(status: StatusCode, asks_upgrade: bool) -> Self {
        match status {
            StatusCode::SWITCHING_PROTOCOLS if asks_upgrade => Self::Final,
            StatusCode::SWITCHING_PROTOCOLS => Self::Unasked,
            status if status.is_informational() => Self::Interim,
            _ => Self::Final,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::VIA;
    use http::{HeaderMap, Method};
    use nearside_config::{SiteTimeouts, Timeouts};

    use super::*;
    use crate::Patience;
    use crate::client_network::ClientNetwork;

    fn written(origin_host: Option<&'static str>, urgency: Urgency, shield: Option<&ForShield<'_>>) -> String {
        let forward = Forward {
            method: Method::GET,
            target: (*b"/p").into(),
            authority: HeaderValue::from_static("shop.example"),
            origin_host: origin_host.map(HeaderValue::from_static),
            fields: HeaderMap::from_iter([(VIA, HeaderValue::from_static("1.1 edge"))]),
            urgency,
            network: ClientNetwork::OWN,
            patience: Patience::new(&Timeouts::default(), &SiteTimeouts::default()),
        };
        let mut out = Vec::new();
        write_head(&forward, shield, &mut out);
        String::from_utf8(out).unwrap().to_ascii_lowercase()
    }

    #[test]
    fn an_origin_sees_the_host_that_its_site_names_and_a_shield_that_of_the_client() {
        let shield = ForShield { secret: None, purges: None };
        for (origin_host, shield, expected) in [
            (None, None, "host: shop.example\r\n"),
            (Some("bucket.example"), None, "host: bucket.example\r\n"),
            (None, Some(&shield), "host: shop.example\r\n"),
            (Some("bucket.example"), Some(&shield), "host: shop.example\r\n"),
        ] {
            let head = written(origin_host, Urgency::Client, shield);
            assert!(head.contains(expected), "{head}");
            assert!(head.starts_with("get /p http/1.1\r\n") && head.contains("via: 1.1 edge\r\n"), "{head}");
        }
    }

    #[test]
    fn an_origin_never_sees_what_is_for_shields() {
        let secret = HeaderValue::from_static("s3cret");
        let shield = ForShield { secret: Some(&secret), purges: Some("log/7".to_owned()) };
        let (to_shield, to_origin) =
            (written(None, Urgency::Refresh, Some(&shield)), written(None, Urgency::Refresh, None));
        for line in ["nearside-secret: s3cret\r\n", "nearside-refresh: 1\r\n", "nearside-purges: log/7\r\n"] {
            assert!(to_shield.contains(line), "{to_shield}");
        }
        assert!(!to_origin.contains("nearside-"), "{to_origin}");
    }

    #[test]
    fn only_a_refresh_is_marked_as_one() {
        let shield = ForShield { secret: None, purges: None };
        for urgency in [Urgency::Client, Urgency::Validation] {
            assert!(!written(None, urgency, Some(&shield)).contains("nearside-"), "{urgency:?}");
        }
    }

    #[test]
    fn a_change_of_protocols_is_final_only_where_it_was_asked_for() {
        for (number, asks_upgrade, expected) in [
            (101, true, HeadKind::Final),
            (101, false, HeadKind::Unasked),
            (100, true, HeadKind::Interim),
            (103, false, HeadKind::Interim),
            (199, false, HeadKind::Interim),
            (200, true, HeadKind::Final),
            (204, false, HeadKind::Final),
            (599, false, HeadKind::Final),
        ] {
            let status = StatusCode::from_u16(number).unwrap();
            assert_eq!(HeadKind::new(status, asks_upgrade), expected, "{number} {asks_upgrade}");
        }
    }
}
