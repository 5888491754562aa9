//! Whether a response may be stored by a shared cache (RFC 9111 §3, §3.3, §3.5, §5.2.2.3).

use http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use crate::control::Control;
use crate::directives::{RequestDirectives, ResponseDirectives};
use crate::lifetime::Lifetime;
use crate::vary::Vary;

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStorable {
    /// Only answers to GET and HEAD are stored, and to a POST whose answer says that it is for later GETs.
    Method,
    /// An interim or unknown status class.
    Status,
    /// A 206, or any answer to a range request, is a part; only whole responses are stored (§3.3).
    Partial,
    /// `no-store`
    NoStore,
    /// `no-store` in the request, where the site honours that (§5.2.1.5).
    RequestNoStore,
    /// `private`
    Private,
    /// `must-understand` with a status that this cache does not implement (§5.2.2.3).
    NotUnderstood,
    /// The request was authorised and the response does not allow sharing (§3.5).
    Authorization,
    /// It sets a cookie, and the site did not say that such answers may be shared.
    SetCookie,
    /// `Vary: *`: no later request can be shown to match (§4.1).
    VaryAll,
    /// The status speaks of the request that was sent, and the response does not say that others may have it.
    RequestError,
    /// Neither explicit freshness, nor `public`, nor a status that allows heuristics (§3).
    NoFreshness,
    /// It could be stored, but never reused without asking, and has no validator to ask with.
    Useless,
}

/// What a site decides where the RFC leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorePolicy {
    /// Store answers that carry `Set-Cookie`. RFC 9111 §7.3 warns; off unless a site asks for it.
    pub set_cookie: bool,
    /// Obey `no-store` in requests.
    pub request_directives: bool,
}

/// A response, and the request that it answers.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'c> {
    /// Of the request.
    pub method: &'c Method,
    /// Of the request.
    pub request: &'c HeaderMap,
    /// Of the response.
    pub status: StatusCode,
    /// Of the response.
    pub response: &'c HeaderMap,
    /// `Content-Location` names the URI that was asked ([`crate::invalidation::is_own_location`]).
    pub own_location: bool,
}

/// Whether the response to a request may be stored.
///
/// # Errors
///
/// The first reason against it.
pub fn storable(
    candidate: &Candidate<'_>,
    control: &Control,
    lifetime: Lifetime,
    policy: StorePolicy,
) -> Result<(), NotStorable> {
    let Candidate { method, request, status, response, .. } = *candidate;
    if method != Method::GET && method != Method::HEAD && !post_for_later_gets(candidate, lifetime) {
        return Err(NotStorable::Method);
    }
    // 304, 412 and 416 speak of one client's conditions and range.
    if status.as_u16() < 200 || matches!(status.as_u16(), 304 | 412 | 416) {
        return Err(NotStorable::Status);
    }
    if status == StatusCode::PARTIAL_CONTENT || response.contains_key(CONTENT_RANGE) && request.contains_key(RANGE) {
        return Err(NotStorable::Partial);
    }
    whole_is_storable(candidate, control, lifetime, policy)
}

/// Whether the whole response could be stored of which a 206 is a part: its fields are those of the 200 (RFC 9110 §15.3.7).
///
/// # Errors
///
/// The first reason against it.
pub fn whole_is_storable(
    candidate: &Candidate<'_>,
    control: &Control,
    lifetime: Lifetime,
    policy: StorePolicy,
) -> Result<(), NotStorable> {
    let Candidate { request, status, response, .. } = *candidate;
    let directives = &control.directives;
    directives_allow(status, directives)?;
    if speaks_of_request(status) && !(control.targeted || directives.public) {
        return Err(NotStorable::RequestError);
    }
    if policy.request_directives && RequestDirectives::of(request).no_store {
        return Err(NotStorable::RequestNoStore);
    }
    if request.contains_key(AUTHORIZATION) && !shares_authorized(directives) {
        return Err(NotStorable::Authorization);
    }
    if response.contains_key(SET_COOKIE) && !policy.set_cookie {
        return Err(NotStorable::SetCookie);
    }
    if Vary::of(response, &[]) == Vary::All {
        return Err(NotStorable::VaryAll);
    }
    reusable_one_day(status, response, directives, lifetime)
}

/// "Responses to POST requests are only cacheable when they include explicit freshness information and a
/// Content-Location header field that has the same value as the POST's target URI" (RFC 9110 §9.3.3).
fn post_for_later_gets(candidate: &Candidate<'_>, lifetime: Lifetime) -> bool {
    candidate.method == Method::POST
        && candidate.status == StatusCode::OK
        && candidate.own_location
        && lifetime.is_explicit()
        && !lifetime.span.is_zero()
}

fn directives_allow(status: StatusCode, directives: &ResponseDirectives) -> Result<(), NotStorable> {
    if directives.must_understand {
        // "no-store" is to be ignored by a cache that understands the status code (§5.2.2.3).
        if !understood(status) {
            return Err(NotStorable::NotUnderstood);
        }
    } else if directives.no_store {
        return Err(NotStorable::NoStore);
    }
    if directives.private { Err(NotStorable::Private) } else { Ok(()) }
}

/// "at least one of" the conditions that end the list of RFC 9111 §3, and a use for what is stored.
fn reusable_one_day(
    status: StatusCode,
    response: &HeaderMap,
    directives: &ResponseDirectives,
    lifetime: Lifetime,
) -> Result<(), NotStorable> {
    let heuristic = crate::lifetime::heuristically_cacheable(status);
    if !(lifetime.is_explicit() || directives.public || heuristic) {
        return Err(NotStorable::NoFreshness);
    }
    let fresh_once = !lifetime.span.is_zero() && !directives.no_cache;
    if fresh_once || crate::conditional::has_validator(response) || has_stale_window(directives) {
        Ok(())
    } else if lifetime.is_explicit() || directives.no_cache {
        Err(NotStorable::Useless)
    } else {
        Err(NotStorable::NoFreshness)
    }
}

/// Whether a status says what was wrong with one request: its method, its fields, its length, its framing, when it came.
///
/// A client that sends an oversized or malformed field gets such a response for a URL that is fine, and origins state
/// freshness for all responses alike. Were it stored, everybody would get the error ("cache-poisoned denial of
/// service"). RFC 9110 §15.1 allows a cache to guess a lifetime for 405, 414 and 501; nothing asks it to.
#[must_use]
pub fn speaks_of_request(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405..=408 | 411..=417 | 421 | 425 | 426 | 428 | 429 | 431 | 501)
}

fn has_stale_window(directives: &ResponseDirectives) -> bool {
    let some =
        |seconds: Option<crate::directives::Seconds>| seconds.is_some_and(|s| !s.or_zero().as_duration().is_zero());
    !directives.no_cache && (some(directives.stale_while_revalidate) || some(directives.stale_if_error))
}

/// RFC 9111 §3.5: "must-revalidate", "public" and "s-maxage" allow sharing the answer to an authorised request.
#[must_use]
pub fn shares_authorized(directives: &ResponseDirectives) -> bool {
    directives.public || directives.must_revalidate || directives.s_maxage.is_some()
}

/// The final statuses of RFC 9110 §15 whose caching rules this cache implements; 206 and 304 are not stored.
fn understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}
