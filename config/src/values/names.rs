//! Names that stand on the wire: of fields, cookies and query parameters.

use std::borrow::Cow;
use std::str::FromStr;

use super::{ValueError, expected};

/// Whether every byte may stand in a token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether a name looks like a regular expression, which would match nothing: `^lang`, `utm_.*`, `id$`.
fn is_regex(text: &str) -> bool {
    text.starts_with('^') || text.ends_with(".*") || text.ends_with('$')
}

/// The name of a field, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldName(Cow<'static, str>);

impl FieldName {
    /// `CDN-Cache-Control` (RFC 9213).
    pub const CDN_CACHE_CONTROL: Self = Self(Cow::Borrowed("cdn-cache-control"));

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.contains('*') {
            return Err(expected("the name of one field, as in \"X-Country\": names of fields have no wildcards"));
        }
        if !is_token(text) {
            return Err(expected("the name of a field, as in \"X-Country\""));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

/// The name of a cookie, or with a `*` at its end, of all that begin so: `language`, `wordpress_logged_in_*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CookieName(String);

impl CookieName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.strip_suffix('*').unwrap_or(text);
        if (text == "*" || is_token(name)) && !name.contains('*') && !is_regex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(expected(
                "the name of a cookie, as in \"language\", or \"wordpress_logged_in_*\" for all that begin so: a `*` stands \
                 at the end only, and regular expressions are not supported",
            ))
        }
    }
}

/// The name of a query parameter, or with a `*` at its end, of all that begin so: `page`, `utm_*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParameterName(String);

impl ParameterName {
    /// The name, with its `*`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ParameterName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.strip_suffix('*').unwrap_or(text);
        if name.contains(['*', '&', '=']) || text.is_empty() || is_regex(text) {
            return Err(expected(
                "the name of a query parameter as it is meant, not escaped; or \"utm_*\" for all \
                                 that begin so",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_wire_can_hold() {
        assert_eq!("X-Country".parse::<FieldName>().unwrap().as_str(), "x-country");
        assert!("x country".parse::<FieldName>().is_err() && "".parse::<FieldName>().is_err());
        assert!("X-*".parse::<FieldName>().is_err() && "*".parse::<FieldName>().is_err());
        assert!("a=b".parse::<CookieName>().is_err() && "".parse::<CookieName>().is_err());
        for pattern in ["wordpress_logged_in_*", "*", "__Host-a"] {
            assert!(pattern.parse::<CookieName>().is_ok(), "{pattern}");
        }
        for pattern in ["*_session", "a*b", "a**", "a?", "[ab]", "/a.*/", "^wordpress_.*", "wordpress_.*", "id$"] {
            assert!(pattern.parse::<CookieName>().is_err(), "{pattern}");
        }
        assert!("utm_*".parse::<ParameterName>().is_ok() && "*".parse::<ParameterName>().is_ok());
        assert!("utm_.*".parse::<ParameterName>().is_err() && "^utm_".parse::<ParameterName>().is_err());
        assert!("u*m".parse::<ParameterName>().is_err() && "".parse::<ParameterName>().is_err());
    }
}
