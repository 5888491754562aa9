//! Secrets that stand in a file although they should not, or in the user part of a URL: they are not repeated when the file is
//! shown.
//!
//! The text is masked before it is understood, as it may be no TOML at all, and byte by byte, so that all places in it stay.

use std::ops::Range;

/// What stands in the place of each byte.
const MASK: u8 = b'*';
/// The shortest secret that is looked for in messages.
const SECRET_BYTES_MIN: usize = 4;

/// A text without its secrets, and what these were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masked {
    /// The text, as long as before.
    pub(crate) text: String,
    secrets: Vec<String>,
}

impl Masked {
    pub(crate) fn new(text: &str) -> Self {
        let mut spans = values(text);
        spans.extend(user_infos(text));
        let mut bytes = text.as_bytes().to_vec();
        let mut secrets = Vec::new();
        for span in spans {
            secrets.extend(text.get(span.clone()).filter(|secret| !secret.is_empty()).map(str::to_owned));
            // Ends of lines stay: places are told by lines.
            let masked =
                bytes.get_mut(span).unwrap_or_default().iter_mut().filter(|byte| !matches!(**byte, b'\r' | b'\n'));
            masked.for_each(|byte| *byte = MASK);
        }
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { text: String::from_utf8_lossy(&bytes).into_owned(), secrets }
    }

    /// A message about the text without its secrets, and without user parts of URLs.
    pub(crate) fn message(&self, message: &str) -> String {
        let mut message = message.to_owned();
        // What is shorter is part of other words. A message about a key for secrets does not repeat its value in any case.
        for secret in self.secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
            message = message.replace(secret, "***");
        }
        let mut spans: Vec<_> = user_infos(&message).collect();
        spans.reverse();
        for span in spans {
            message.replace_range(span, "***");
        }
        message
    }
}

/// Whether a key is for a secret; also one that is misspelt, or of another program.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let holds = |part: &str| key.contains(part);
    let is_near = |known: &str| strsim::damerau_levenshtein(&key, known) <= known.len() / 3;
    ["secret", "passw", "token", "credential", "api_key", "apikey", "private_key"].into_iter().any(holds)
        || ["secret", "password", "token"].into_iter().any(is_near)
}

/// The values of keys for secrets, as far as they stand in the file itself.
fn values(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if !is_of_key(*byte) {
            at += 1;
            continue;
        }
        let begin = at;
        at = skip(bytes, at, is_of_key);
        let key = text.get(begin..at).unwrap_or_default();
        let after = skip(bytes, at, |byte| matches!(byte, b'"' | b'\'' | b' ' | b'\t'));
        // A colon is how others write it.
        if matches!(bytes.get(after), Some(b'=' | b':')) && is_secret(key) {
            let value = skip(bytes, after + 1, |byte| matches!(byte, b' ' | b'\t'));
            at = value_of(text, value, &mut spans).max(at);
        }
    }
    spans
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn skip(bytes: &[u8], from: usize, is_skipped: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is_skipped(*byte)).unwrap_or(rest.len())
}

/// Notes what is secret of the value that begins at a place; returns its end.
fn value_of(text: &str, begin: usize, spans: &mut Vec<Range<usize>>) -> usize {
    let bytes = text.as_bytes();
    match bytes.get(begin) {
        Some(b'"' | b'\'') => {
            let (inside, end) = quoted(text, begin);
            // What only names an environment variable is no secret.
            let value = text.get(inside.clone()).unwrap_or_default();
            if !(value.starts_with("${") && value.ends_with('}')) {
                spans.push(inside);
            }
            end
        }
        Some(b'{') => in_brackets(text, begin, b'}', spans),
        Some(b'[') => in_brackets(text, begin, b']', spans),
        _ => {
            let end = skip(bytes, begin, |byte| !matches!(byte, b'\n' | b'\r' | b',' | b'}' | b']' | b'#'));
            let value = text.get(begin..end).unwrap_or_default().trim_end();
            spans.push(begin..begin + value.len());
            end
        }
    }
}

/// All strings of a table or list, but the names of files.
fn in_brackets(text: &str, begin: usize, close: u8, spans: &mut Vec<Range<usize>>) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut key) = (begin + 1, "");
    loop {
        match bytes.get(at) {
            None => return at,
            Some(byte) if *byte == close => return at + 1,
            // A table that is not closed ends with its line.
            Some(b'\n') if close == b'}' => return at,
            Some(b'"' | b'\'') => {
                let (inside, end) = quoted(text, at);
                if key != "file" {
                    spans.push(inside);
                }
                at = end;
            }
            Some(byte) if is_of_key(*byte) => {
                let end = skip(bytes, at, is_of_key);
                key = text.get(at..end).unwrap_or_default();
                at = end;
            }
            Some(_) => at += 1,
        }
    }
}

/// The inside of a string, and where it ends; one that is not closed ends with its line, or with the text if it is one of several
/// lines.
fn quoted(text: &str, begin: usize) -> (Range<usize>, usize) {
    let bytes = text.as_bytes();
    let quote = bytes.get(begin).copied().unwrap_or(b'"');
    let triple = [quote; 3];
    let has_lines = bytes.get(begin..).unwrap_or_default().starts_with(&triple);
    let marks = triple.get(..if has_lines { 3 } else { 1 }).unwrap_or_default();
    let ends = |byte: u8| !has_lines && matches!(byte, b'\n' | b'\r');
    let inside = begin + marks.len();
    let mut at = inside;
    while let Some(byte) = bytes.get(at) {
        if ends(*byte) {
            return (inside..at, at);
        }
        if bytes.get(at..).unwrap_or_default().starts_with(marks) {
            return (inside..at, at + marks.len());
        }
        at += if *byte == b'\\' && quote == b'"' { 2 } else { 1 };
    }
    (inside..bytes.len(), bytes.len())
}

/// The passwords of URLs; where there is no password, the user, which may be a token.
fn user_infos(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(place, mark)| {
        let begin = place + mark.len();
        let rest = text.get(begin..)?;
        let ends =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '"' | '\'' | '?' | '#' | ',' | '\\');
        let authority = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
        let user_info = authority.rfind('@').and_then(|end| authority.get(..end))?;
        let secret = user_info.find(':').map_or(0, |colon| colon + 1);
        Some(begin + secret..begin + user_info.len()).filter(|span| !span.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let masked = Masked::new(text);
        assert_eq!(masked.text.len(), text.len(), "{text}");
        assert_eq!(masked.text.lines().count(), text.lines().count(), "{text}");
        masked.text
    }

    #[test]
    fn secrets_are_masked_however_they_are_written() {
        for (text, shown) in [
            ("secret = \"hunter2\"", "secret = \"*******\""),
            ("secret = 'hunter2' # x", "secret = '*******' # x"),
            ("secret=hunter2\nid = \"a\"", "secret=*******\nid = \"a\""),
            ("secret: hunter2", "secret: *******"),
            ("secrt = \"hunter2\"", "secrt = \"*******\""),
            ("\"secret\" = \"hunter2\"", "\"secret\" = \"*******\""),
            ("nodes.secret = \"hunter2\"", "nodes.secret = \"*******\""),
            ("Password = \"a\\\"b\"", "Password = \"****\""),
            ("token = \"hunter2", "token = \"*******"),
            ("secret = \"\"\"a\nb\"\"\"\nid = 1", "secret = \"\"\"*\n*\"\"\"\nid = 1"),
            ("nodes = { secret = \"hunter2\", id = \"b\" }", "nodes = { secret = \"*******\", id = \"b\" }"),
            ("secret = { value = \"hunter2\" }", "secret = { value = \"*******\" }"),
            ("secret = { file = \"/etc/x\" }", "secret = { file = \"/etc/x\" }"),
            ("secret = { fil = \"/etc/x\"\nid = \"a\"", "secret = { fil = \"******\"\nid = \"a\""),
            ("secret = [\"hunter2\", \"b\"]", "secret = [\"*******\", \"*\"]"),
            ("secret = \"${NEARSIDE_TOKEN}\"", "secret = \"${NEARSIDE_TOKEN}\""),
            ("# secret = \"hunter2\"", "# secret = \"*******\""),
            ("secret = \"ß日\"", "secret = \"*****\""),
            ("key = \"a.key\"", "key = \"a.key\""),
            ("open = \"x\"", "open = \"x\""),
            ("[[token]]\nname = \"a\"", "[[token]]\nname = \"a\""),
            ("secret =", "secret ="),
            ("secret", "secret"),
            ("secret = ${NEARSIDE}", "secret = **********}"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn passwords_of_urls_are_masked() {
        for (text, shown) in [
            ("origins = [\"http://u:hunter2@a.org/x@y\"]", "origins = [\"http://u:*******@a.org/x@y\"]"),
            ("servers = \"nats://hunter2@a:4222\"", "servers = \"nats://*******@a:4222\""),
            ("u = \"http://a:b@c@d\"", "u = \"http://a:***@d\""),
            ("u = \"http://a.org/?m=b@c\"", "u = \"http://a.org/?m=b@c\""),
            ("u = \"http://a.org\" # b@c", "u = \"http://a.org\" # b@c"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn messages_do_not_repeat_them() {
        let masked = Masked::new("secret = \"hunter2\"\norigins = \"http://u:hunter3@a\"\n");
        assert_eq!(masked.message("`secret` cannot be \"hunter2\""), "`secret` cannot be \"***\"");
        assert_eq!(masked.message("http://u:hunter3@a, http://v:hunter4@a"), "http://u:***@a, http://v:***@a");
        assert_eq!(masked.message("`secret` is missing"), "`secret` is missing");
    }
}
