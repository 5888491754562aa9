//! Patterns of other caches' purges, where they are equivalent to what an order can name.
//!
//! A regular expression is not evaluated. The few shapes that plugins send are recognised and turned into a prefix, a URL, a
//! list of tags, or everything; of all others the functions return `None`, and the purge is refused.

/// Ends of a regular expression that match whatever follows.
const OPEN_ENDS: [&str; 6] = [".*$", "(.*)$", ".*", "(.*)", ".+$", ".+"];
/// Beginnings and ends of a regular expression that only say where a tag begins or ends in a list.
const TAG_BEGINS: [&str; 6] = ["(^|,)", "(?:^|,)", "(^|\\s)", "(^| )", "(^|[, ])", "^"];
const TAG_ENDS: [&str; 7] = ["(,|$)", "(?:,|$)", "($|,)", "(\\s|$)", "( |$)", "([, ]|$)", "$"];
/// Depth to which the parentheses of a pattern may be nested.
const DEPTH_MAX: usize = 8;

/// URLs that a pattern matches, all of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Urls {
    /// All URLs.
    Everything,
    /// All URLs whose path begins so.
    Beginning(String),
    /// The URL with this path and query.
    Exactly(String),
}

/// Names that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// All names.
    All,
    /// These names.
    These(Vec<String>),
}

impl Urls {
    fn beginning(path: String) -> Option<Self> {
        match path.as_str() {
            "" | "/" => Some(Self::Everything),
            // A prefix cannot reach into the query: the parameters may be stored in another order.
            path if path.contains('?') || !path.starts_with('/') => None,
            _ => Some(Self::Beginning(path)),
        }
    }
}

/// Returns what the target of a `PURGE` names, whose sender does not say whether it is a pattern.
///
/// A `*` is no pattern in a URL, but plugins for Varnish send `/.*` and `/blog/*` also without a further word.
pub(super) fn of_target(target: &str) -> Option<Urls> {
    if !is_marked(target) {
        return Some(Urls::Exactly(target.to_owned()));
    }
    if OPEN_ENDS.iter().any(|end| target.ends_with(end)) {
        return of_regex(target);
    }
    let head = target.strip_suffix('*').filter(|head| !is_marked(head))?;
    Urls::beginning(head.to_owned())
}

/// Whether a target holds something that stands in patterns rather than in URLs.
fn is_marked(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    target.contains('*') || path.ends_with(".+") || path.contains(['|', '\\', '^', '{', '}'])
}

/// Returns the URLs that a regular expression over paths matches, if they are those of a prefix, or one.
///
/// An unescaped dot counts as itself: plugins put paths into expressions as they are. An expression that is not anchored
/// is taken to begin where the path begins.
pub(super) fn of_regex(text: &str) -> Option<Urls> {
    let text = text.strip_prefix('^').unwrap_or(text);
    let open = OPEN_ENDS.iter().find_map(|end| text.strip_suffix(end).filter(|head| !ends_in_escape(head)));
    if let Some(head) = open {
        return Urls::beginning(literal(head)?);
    }
    match text.strip_suffix('$').filter(|head| !ends_in_escape(head)) {
        Some(head) => literal(head).filter(|url| url.starts_with('/')).map(Urls::Exactly),
        None => Urls::beginning(literal(text)?),
    }
}

/// Whether the character behind `head` is escaped.
fn ends_in_escape(head: &str) -> bool {
    head.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Returns the text that an expression without operators stands for.
fn literal(expression: &str) -> Option<String> {
    let mut text = String::with_capacity(expression.len());
    let mut rest = expression.chars();
    while let Some(next) = rest.next() {
        match next {
            // Letters and digits make classes and references of an escape.
            '\\' => text.push(rest.next().filter(|escaped| escaped.is_ascii_punctuation())?),
            '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            _ => text.push(next),
        }
    }
    Some(text)
}

/// Returns the names that a pattern stands for: `.*`, `a|b`, `^(a|b)$`, `(^|,)a(,|$)`, `((^|,)a(,|$))|((^|,)b(,|$))`.
pub(super) fn names(pattern: &str) -> Option<Names> {
    match pattern.trim() {
        "*" | ".*" | ".+" | "^.*$" | "(.*)" => Some(Names::All),
        pattern => alternatives(pattern, DEPTH_MAX).map(Names::These),
    }
}

fn alternatives(pattern: &str, depth: usize) -> Option<Vec<String>> {
    let depth = depth.checked_sub(1)?;
    let parts = split(pattern)?;
    if let [only] = parts[..] {
        let bare = TAG_BEGINS.iter().find_map(|begin| only.strip_prefix(begin)).unwrap_or(only);
        let end = TAG_ENDS.iter().find_map(|end| bare.strip_suffix(end).filter(|head| !ends_in_escape(head)));
        let bare = end.unwrap_or(bare);
        let inner = bare.strip_prefix("(?:").or_else(|| bare.strip_prefix('('));
        return match inner.and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) => alternatives(inner, depth),
            None if bare.len() < only.len() => alternatives(bare, depth),
            None => literal(bare).filter(|name| !name.is_empty()).map(|name| vec![name]),
        };
    }
    let mut names = Vec::with_capacity(parts.len());
    for part in parts {
        names.extend(alternatives(part, depth)?);
    }
    Some(names)
}

/// Splits a pattern at the `|` outside of parentheses; `None` if these do not match.
fn split(pattern: &str) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut open, mut escaped) = (Vec::new(), 0, 0_usize, false);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => open += 1,
            b')' => open = open.checked_sub(1)?,
            b'|' if open == 0 => {
                parts.push(pattern.get(from..at)?);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(pattern.get(from..)?);
    (open == 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(path: &str) -> Option<Urls> {
        Some(Urls::Beginning(path.to_owned()))
    }

    fn exactly(url: &str) -> Option<Urls> {
        Some(Urls::Exactly(url.to_owned()))
    }

    #[test]
    fn a_target_that_ends_in_a_wildcard_is_a_prefix() {
        for (target, urls) in [
            ("/.*", Some(Urls::Everything)),
            ("/*", Some(Urls::Everything)),
            ("/(.*)", Some(Urls::Everything)),
            ("/blog/.*", beginning("/blog/")),
            ("/blog/*", beginning("/blog/")),
            ("/blog/.+", beginning("/blog/")),
            ("/a.html.*", beginning("/a.html")),
            ("/a\\.html.*$", beginning("/a.html")),
            ("/a?b[]=c|d", exactly("/a?b[]=c|d")),
            ("/a+b(c)$", exactly("/a+b(c)$")),
            ("/", exactly("/")),
            ("/a/*/b", None),
            ("/*.css", None),
            ("/**", None),
            ("/a?q=*", None),
            ("/a?q=.*", None),
            ("/a*b?x", None),
            ("/(a|b)", None),
            ("/[0-9]{2}", None),
            ("/\\d+", None),
        ] {
            assert_eq!(of_target(target), urls, "{target}");
        }
    }

    #[test]
    fn an_expression_is_a_prefix_or_a_url_or_not_understood() {
        for (text, urls) in [
            (".*", Some(Urls::Everything)),
            ("^/.*$", Some(Urls::Everything)),
            ("/", Some(Urls::Everything)),
            ("^/blog/", beginning("/blog/")),
            ("^\\/blog\\/.*", beginning("/blog/")),
            ("/a\\.*", None),
            ("^/a$", exactly("/a")),
            ("^/a\\?b=c$", exactly("/a?b=c")),
            ("^/a\\?b=.*", None),
            ("/a?b", None),
            ("^/(de|en)/.*", None),
            ("\\.css$", None),
            ("blog/.*", None),
            ("/a\\d", None),
            ("/a\\", None),
            ("^$", None),
        ] {
            assert_eq!(of_regex(text), urls, "{text}");
        }
    }

    #[test]
    fn names_are_taken_out_of_the_patterns_that_plugins_make() {
        for (pattern, expected) in [
            ("((^|,)cat_p_1(,|$))|((^|,)cat_c(,|$))", &["cat_p_1", "cat_c"][..]),
            ("((^|,)cat_p_1(,|$))", &["cat_p_1"]),
            ("(^|,)(a|b\\-c)(,|$)", &["a", "b-c"]),
            ("a|b|c", &["a", "b", "c"]),
            ("node:1", &["node:1"]),
            ("^(www\\.)$", &["www."]),
            ("^(a|b)$", &["a", "b"]),
            ("(?:^|,)(?:x)(?:,|$)", &["x"]),
        ] {
            let expected = expected.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names(pattern), Some(Names::These(expected)), "{pattern}");
        }
        assert_eq!(names(" .* "), Some(Names::All));
        for wrong in ["", "a.*", "cat_[0-9]+", "(a", "a)", "a||b", "(^|,)(,|$)", "a\\d", "(a|b)c"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
        assert_eq!(names(&"(".repeat(20_000)), None);
        assert_eq!(names(&format!("{}a{}", "(".repeat(9000), ")".repeat(9000))), None);
    }
}
