//! Equivalent spellings of a path and query (RFC 3986 §6.2.2, RFC 9110 §4.2.3), for purges.
//!
//! Cache keys keep the bytes of a request as they came ([`crate::key`]), because an origin may tell `/%7Ea` from `/~a`. A
//! purge must not: whoever purges a URL means the resource, however clients spell it. So purges compare normal forms.
//! A form that is too coarse costs a cache miss; one that is too fine leaves an outdated response in the cache.

/// Returns the normal form of a path and query, or `None` if it stands in that form already.
///
/// Escapes of unreserved characters are decoded, other escapes are written in upper case, and dot segments of the path are
/// removed. Reserved characters keep their escapes: `/a%2Fb` is not `/a/b`.
#[must_use]
pub fn normal(target: &[u8]) -> Option<Vec<u8>> {
    let decoded = unescaped(target);
    let seen = decoded.as_deref().unwrap_or(target);
    without_dot_segments(seen).or(decoded)
}

/// Returns the path and query with its escapes in normal form, or `None` if they are already.
fn unescaped(target: &[u8]) -> Option<Vec<u8>> {
    if !target.contains(&b'%') {
        return None;
    }
    let mut plain = Vec::with_capacity(target.len());
    let mut rest = target;
    while let Some((byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let decoded = hex(*high) << 4 | hex(*low);
                if is_unreserved(decoded) {
                    plain.push(decoded);
                } else {
                    plain.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                }
                rest = behind;
            }
            _ => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    (plain != target).then_some(plain)
}

/// Returns the normal form of the beginning of a path, whose last segment may go on.
#[must_use]
pub fn normal_beginning(path: &[u8]) -> Vec<u8> {
    let decoded = unescaped(path).unwrap_or_else(|| path.to_vec());
    let end = decoded.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (complete, last) = decoded.split_at_checked(end).unwrap_or((&decoded, b""));
    match without_dot_segments(complete) {
        Some(mut form) => {
            form.extend_from_slice(last);
            form
        }
        None => decoded,
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Removes the segments `.` and `..` of a path (RFC 3986 §5.2.4); `None` if it has none.
fn without_dot_segments(target: &[u8]) -> Option<Vec<u8>> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(end)?;
    if !path.windows(2).any(|pair| pair == b"/.") {
        return None;
    }
    let path = path.strip_prefix(b"/")?;
    let is_dots = |segment: &[u8]| segment == b"." || segment == b"..";
    if !path.split(|byte| *byte == b'/').any(is_dots) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_dots = false;
    for segment in path.split(|byte| *byte == b'/') {
        ends_in_dots = is_dots(segment);
        match segment {
            b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if ends_in_dots {
        kept.push(b"");
    }
    let mut plain = vec![b'/'];
    plain.extend_from_slice(&kept.join(&b'/'));
    plain.extend_from_slice(query);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_s6_2_2_equivalent_spellings_have_one_normal_form() {
        for (spelling, form) in [
            ("/~a", "/~a"),
            ("/%7Ea", "/~a"),
            ("/%7ea", "/~a"),
            ("/%61%2d%2E%5f", "/a-._"),
            ("/caf%c3%a9?x=%c3%a9", "/caf%C3%A9?x=%C3%A9"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b+c", "/a%20b+c"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a//b", "/a//b"),
            ("/a/...", "/a/..."),
            ("/?x=/../y", "/?x=/../y"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("", ""),
        ] {
            let found = normal(spelling.as_bytes());
            assert_eq!(found.as_deref(), (spelling != form).then_some(form.as_bytes()), "{spelling}");
            assert_eq!(normal(form.as_bytes()), None, "{form} is normal");
        }
    }

    #[test]
    fn the_last_segment_of_a_beginning_may_go_on() {
        for (path, form) in [
            ("/%7e/.", "/~/."),
            ("/a/..", "/a/.."),
            ("/a/../b", "/b"),
            ("/a/../", "/"),
            ("/caf%c3", "/caf%C3"),
            ("", ""),
        ] {
            assert_eq!(normal_beginning(path.as_bytes()), form.as_bytes(), "{path}");
        }
    }
}
