//! Requests that are answered with an error by the node itself.

use http::StatusCode;

use crate::h1::request::RequestError;
use crate::reason::Reason;

/// Refusal of a request: what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: Reason,
}

impl Refusal {
    /// A 400.
    pub(crate) const fn bad(reason: Reason) -> Self {
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
