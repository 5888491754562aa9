//! The `Cache-Status` field (RFC 9211): one member per cache, the one nearest to the origin first.

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was configured not to handle this request.
    Bypass,
    /// The method required it.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but not for this request's `Vary` fields.
    VaryMiss,
    /// The request's own directives.
    Request,
    /// What is stored was stale.
    Stale,
}

impl Forward {
    /// The token of RFC 9211 §2.2.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// What one cache did with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Member {
    /// Set when the request went forward; not set means a hit, unless `answered` says otherwise.
    pub forward: Option<Forward>,
    /// The status that the next hop answered, if it differs from or explains this one (§2.3).
    pub forward_status: Option<u16>,
    /// Seconds of freshness left; negative when stale (§2.4).
    pub ttl: Option<i64>,
    /// The response was stored (§2.5).
    pub stored: bool,
    /// Answered from somebody else's forward (§2.6).
    pub collapsed: bool,
    /// The cache answered by itself, with nothing stored: neither `hit` nor `fwd` is said.
    pub answered: bool,
    /// More, as a token of ours (§2.8).
    pub detail: Option<&'static str>,
}

impl Member {
    /// Writes the member for the cache called `name` (an RFC 9651 token) behind `line`.
    pub fn write(&self, name: &str, line: &mut Vec<u8>) {
        line.extend_from_slice(name.as_bytes());
        match self.forward {
            Some(forward) => parameter(line, "fwd", forward.token().as_bytes()),
            None if !self.answered => line.extend_from_slice(b"; hit"),
            None => {}
        }
        if let Some(status) = self.forward_status {
            integer(line, "fwd-status", i64::from(status));
        }
        if self.stored {
            line.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            line.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl) = self.ttl {
            integer(line, "ttl", ttl);
        }
        if let Some(detail) = self.detail {
            parameter(line, "detail", detail.as_bytes());
        }
    }
}

fn parameter(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b"; ");
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    line.extend_from_slice(value);
}

fn integer(line: &mut Vec<u8>, name: &str, value: i64) {
    // RFC 9651 §3.3.1: at most fifteen digits.
    let value = value.clamp(-999_999_999_999_999, 999_999_999_999_999);
    parameter(line, name, itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(member: Member) -> String {
        let mut line = Vec::new();
        member.write("edge-nrt", &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn rfc9211_members() {
        let hit = Member { ttl: Some(37), ..Member::default() };
        assert_eq!(written(hit), "edge-nrt; hit; ttl=37");
        let stale = Member { ttl: Some(-3), detail: Some("updating"), ..Member::default() };
        assert_eq!(written(stale), "edge-nrt; hit; ttl=-3; detail=updating");
        let miss = Member {
            forward: Some(Forward::UriMiss),
            forward_status: Some(200),
            stored: true,
            ttl: Some(60),
            ..Member::default()
        };
        assert_eq!(written(miss), "edge-nrt; fwd=uri-miss; fwd-status=200; stored; ttl=60");
        let refused = Member { answered: true, detail: Some("loop"), ..Member::default() };
        assert_eq!(written(refused), "edge-nrt; detail=loop");
    }
}
