//! Protocols that clients speak.

/// Protocol of a request. A closed set, so that a new protocol cannot be logged, counted or announced as another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
}

impl Protocol {
    /// All protocols, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// Name in the access log.
    #[must_use]
    pub const fn log_name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    /// Value of the label `proto` of the metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "http/2",
        }
    }

    /// Version in `Via` (RFC 9110 §7.6.3).
    #[must_use]
    pub const fn via_version(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    /// Whether clients of this protocol understand interim responses: "A server MUST NOT send a 1xx response to an HTTP/1.0
    /// client" (RFC 9110 §15.2).
    #[must_use]
    pub const fn has_interim_responses(self) -> bool {
        match self {
            Self::Http10 => false,
            Self::Http11 | Self::Http2 => true,
        }
    }
}
