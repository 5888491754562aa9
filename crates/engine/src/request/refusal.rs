//! Requests that are answered with an error by the node itself.

use http::StatusCode;
use nearside_http1::request::RequestError;
use nearside_telemetry::reason::Reason;

/// Refusal of a request: what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Status code of the response.
    pub status: StatusCode,
    /// Reason in the log and in `Cache-Status`.
    pub reason: Reason,
}

impl Refusal {
    /// A 400.
    pub const fn bad(reason: Reason) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
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
        Self { status: error.status(), reason }
    }
}
