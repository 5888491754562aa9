//! Requests that are answered with an error by the node itself.

use http::StatusCode;
use nearside_config::SiteId;
use nearside_http1::request::RequestError;
use nearside_telemetry::reason::Reason;

/// Refusal of a request: what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Status code of the response.
    pub status: StatusCode,
    /// Reason in the log and in `Cache-Status`.
    pub reason: Reason,
    /// Site of the request, where it is known.
    pub site: Option<SiteId>,
}

impl Refusal {
    /// A refusal of a request whose site is not known.
    #[must_use]
    pub const fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reason, site: None }
    }

    /// A 400.
    #[must_use]
    pub const fn bad(reason: Reason) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// The same for a request of a site.
    #[must_use]
    pub const fn at(self, site: SiteId) -> Self {
        Self { site: Some(site), ..self }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let reason = match error {
            RequestError::BareCrOrLf => Reason::BareCrOrLf,
            RequestError::Malformed => Reason::Malformed,
            RequestError::Version => Reason::Version,
            RequestError::TooManyFields => Reason::TooManyFields,
            RequestError::Target => Reason::Target,
            RequestError::Connect => Reason::Connect,
            RequestError::Method => Reason::BadMethod,
            RequestError::HostMissing => Reason::HostMissing,
            RequestError::HostRepeated => Reason::HostRepeated,
            RequestError::Host => Reason::Host,
            RequestError::FieldName => Reason::FieldName,
            RequestError::FieldValue => Reason::FieldValue,
        };
        Self::new(error.status(), reason)
    }
}
