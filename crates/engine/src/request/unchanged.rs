//! Requests that go forward as they came, for their client alone: those with credentials or a signature.
//!
//! A fill asks for the whole response: by GET, without the client's conditions and range, with normalised
//! `Accept-Encoding`. Others can share it, but an origin server that verifies a signature over the request refuses it. And
//! the response to a request with `Authorization` belongs to one client, unless it says otherwise (RFC 9111 §3.5): to wait
//! for it is of no use to others. What responses said is remembered beside the key.

use http::header::{AUTHORIZATION, RANGE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use nearside_config::SiteId;
use nearside_semantics::Timestamp;
use nearside_semantics::conditional::is_conditional;
use nearside_semantics::storable::shares_authorized;
use nearside_store::{Entry, Sharing};

use super::key::CacheKey;
use super::{Engine, Request};
use crate::fill::Plan;

/// `Signature-Input` (RFC 9421): the request is signed.
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// Schemes of `Authorization` whose credentials do not depend on the rest of the request.
const PLAIN_SCHEMES: [&[u8]; 5] = [b"basic", b"bearer", b"negotiate", b"ntlm", b"token"];

/// Query parameters that hold the signature of a presigned URL: of S3 and its relatives (versions 4 and 2), Google,
/// Alibaba, Tencent, Azure. Compared without case.
const SIGNATURE_PARAMETERS: [&[u8]; 6] =
    [b"x-amz-signature", b"x-goog-signature", b"x-oss-signature", b"q-signature", b"signature", b"sig"];

/// Whether a request carries a signature over its method, target or fields.
pub(crate) fn is_signed(fields: &HeaderMap, target: &[u8]) -> bool {
    fields.contains_key(SIGNATURE_INPUT) || fields.get_all(AUTHORIZATION).iter().any(|v| signs(v.as_bytes())) || {
        let query = target.splitn(2, |b| *b == b'?').nth(1).unwrap_or_default();
        query.split(|b| *b == b'&').any(|parameter| {
            let name = parameter.split(|b| *b == b'=').next().unwrap_or_default();
            SIGNATURE_PARAMETERS.iter().any(|signature| name.eq_ignore_ascii_case(signature))
        })
    }
}

/// Whether credentials are of a scheme that signs the request, as `AWS4-HMAC-SHA256` does.
fn signs(credentials: &[u8]) -> bool {
    let scheme = credentials.split(|b| *b == b' ').next().unwrap_or_default();
    !PLAIN_SCHEMES.iter().any(|plain| scheme.eq_ignore_ascii_case(plain))
}

impl Request {
    /// Whether a fill would ask for something else than the client does.
    pub(crate) fn is_altered_by_fill(&self) -> bool {
        self.block.is_none() && (self.method == Method::HEAD || self.is_selective() || !self.signed_as_sent.is_empty())
    }

    /// Whether it has conditions or a range.
    pub(crate) fn is_selective(&self) -> bool {
        self.fields.contains_key(RANGE) || is_conditional(&self.fields)
    }
}

/// Whether a request that nothing stored answers has to go forward alone, because of its credentials or signature.
/// `stored` is what would be validated.
pub(crate) fn goes_alone(
    engine: &Engine,
    site: SiteId,
    key: &CacheKey,
    request: &Request,
    stored: Option<&Entry>,
    now: Timestamp,
) -> bool {
    let is_authorized = request.fields.contains_key(AUTHORIZATION);
    let sharing = match stored {
        _ if !is_authorized => None,
        Some(entry) if engine.shares_authorized(site, &entry.head.fields) => Some(Sharing::Shared),
        Some(_) => Some(Sharing::Alone),
        None => engine.store.negative().sharing(&key.url, now),
    };
    let is_refused_if_altered = || is_authorized || is_signed(&request.fields, &request.target);
    decide(sharing, stored.is_none() && request.is_altered_by_fill(), is_refused_if_altered)
}

/// The same by what is known of `sharing`. `is_altered` says that a fill would ask for something else than the client does, and
/// `is_refused_if_altered` that an origin server may then refuse it.
fn decide(sharing: Option<Sharing>, is_altered: bool, is_refused_if_altered: impl FnOnce() -> bool) -> bool {
    match sharing {
        Some(Sharing::Shared) => false,
        Some(Sharing::Alone) => true,
        None => is_altered && is_refused_if_altered(),
    }
}

/// Whether a response may be a refusal of what a fill has altered: then the client's own request may still be accepted.
pub(crate) fn may_refuse_alteration(status: StatusCode, request: &Request) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) && request.is_altered_by_fill()
}

impl Engine {
    /// Whether a response to a request with `Authorization` may be given to others (RFC 9111 §3.5).
    fn shares_authorized(&self, site: SiteId, response: &HeaderMap) -> bool {
        shares_authorized(&self.rules(site).control(response).directives)
    }

    /// Remembers beside the key whether responses to requests with `Authorization` can be shared. An error or a refusal
    /// says nothing about those of others.
    pub(crate) fn note_sharing(&self, plan: &Plan, status: StatusCode, response: &HeaderMap) {
        if !speaks_of_sharing(status) || !plan.request.contains_key(AUTHORIZATION) {
            return;
        }
        let sharing = if self.shares_authorized(plan.site, response) { Sharing::Shared } else { Sharing::Alone };
        self.store.negative().remember_sharing(&plan.key.url, sharing, self.clock.now());
    }
}

/// Whether a response with this status says anything about responses to others.
fn speaks_of_sharing(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::NOT_FOUND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::slices::Block;
    use crate::samples::{request, status};

    #[test]
    fn what_is_known_of_sharing_counts_before_what_a_fill_would_alter() {
        for (sharing, is_altered, is_refused, expected) in [
            (Some(Sharing::Shared), true, true, false),
            (Some(Sharing::Alone), false, false, true),
            (None, true, true, true),
            (None, true, false, false),
            (None, false, true, false),
        ] {
            assert_eq!(decide(sharing, is_altered, || is_refused), expected, "{sharing:?} {is_altered} {is_refused}");
        }
    }

    #[test]
    fn an_error_or_a_refusal_says_nothing_about_responses_to_others() {
        for (number, expected) in
            [(200, true), (206, true), (301, true), (304, true), (404, true), (401, false), (403, false), (500, false)]
        {
            assert_eq!(speaks_of_sharing(status(number)), expected, "{number}");
        }
    }

    #[test]
    fn a_fill_alters_requests_for_heads_parts_and_conditions_but_no_block() {
        let range = ("range", "bytes=0-4");
        for (method, lines, expected) in [
            (Method::GET, &[][..], false),
            (Method::HEAD, &[], true),
            (Method::GET, &[range], true),
            (Method::GET, &[("if-none-match", "\"a\"")], true),
            (Method::GET, &[("if-match", "\"a\"")], true),
        ] {
            let mut request = request(method, lines);
            assert_eq!(request.is_altered_by_fill(), expected, "{request:?}");
            request.block = Some(Block::first());
            assert!(!request.is_altered_by_fill(), "a block is asked for as what it is");
        }
        let mut signed = request(Method::GET, &[]);
        signed.signed_as_sent = vec![(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip, br"))];
        assert!(signed.is_altered_by_fill());
    }

    #[test]
    fn only_a_refusal_of_an_altered_request_may_be_due_to_the_alteration() {
        for (number, lines, expected) in [
            (401, &[("range", "bytes=0-4")][..], true),
            (403, &[("range", "bytes=0-4")], true),
            (403, &[], false),
            (404, &[("range", "bytes=0-4")], false),
            (500, &[("range", "bytes=0-4")], false),
        ] {
            let found = may_refuse_alteration(status(number), &request(Method::GET, lines));
            assert_eq!(found, expected, "{number} {lines:?}");
        }
    }

    #[test]
    fn signed_requests_are_told_from_those_with_plain_credentials() {
        let table = [
            ("", "/a", false),
            ("Bearer abc", "/a", false),
            ("basic YTpi", "/a", false),
            ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;range, Signature=c", "/a", true),
            ("AWS AKID:sig", "/a", true),
            ("SharedKey account:sig", "/a", true),
            ("", "/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab", true),
            ("", "/a?x-goog-signature=ab&x=1", true),
            ("", "/a?sv=2022&sig=ab%3D", true),
            ("", "/a?signatures=1&design=2", false),
            ("", "/sig=1", false),
        ];
        for (authorization, target, expected) in table {
            let mut fields = HeaderMap::new();
            if !authorization.is_empty() {
                fields.insert(AUTHORIZATION, authorization.parse().unwrap());
            }
            assert_eq!(is_signed(&fields, target.as_bytes()), expected, "{authorization} {target}");
        }
        let mut fields = HeaderMap::new();
        fields.insert(SIGNATURE_INPUT, "sig1=(\"@method\")".parse().unwrap());
        assert!(is_signed(&fields, b"/a"));
    }
}
