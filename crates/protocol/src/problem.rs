//! Errors of the API.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong with a request (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code says which problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The status.
    pub status: u16,
    /// Which problem it is; codes never change.
    pub code: &'static str,
    /// What is wrong, where, and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem that a client is told with a status.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { kind: "about:blank", title, status: status.as_u16(), code, detail: detail.into() }
    }

    /// Understood, but not to be done.
    #[must_use]
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }
}

#[cfg(feature = "response")]
mod response {
    use axum_core::response::{IntoResponse, Response};
    use http::{StatusCode, header};

    use super::Problem;

    impl IntoResponse for Problem {
        fn into_response(self) -> Response {
            let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = serde_json::to_string(&self).unwrap_or_default();
            let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
            let fields = response.headers_mut();
            if status == StatusCode::UNAUTHORIZED {
                fields.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            if status == StatusCode::TOO_MANY_REQUESTS {
                fields.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            response
        }
    }
}
