//! Purges by request method, as plugins for other caches send them: `PURGE`, `BAN` and their relatives.
//!
//! No standard describes these. What they mean stands in each site's Varnish configuration, and plugins rely on that. So a
//! request is translated where its meaning is known (`selectors`, `pattern`) and is refused with 501 where it is not:
//! a plugin that is told "200" believes that outdated pages are gone.

mod pattern;
mod selectors;

use axum::http::{HeaderMap, Method, StatusCode};
use nearside_protocol::{Order, Problem};
use nearside_semantics::key::{is_authority, split_port};

use pattern::{Names, Urls};
use selectors::{Mode, Selectors};

/// Methods with a meaning here. `SOFTPURGE` is from Varnish, `URLPURGE` from Breeze, `PURGEKEYS` and `PURGETAGS` are from
/// FOSHttpCache.
const METHODS: [&str; 6] = ["PURGE", "BAN", "SOFTPURGE", "URLPURGE", "PURGEKEYS", "PURGETAGS"];

/// A purge by method, as it was received.
#[derive(Debug, Clone, Copy)]
pub struct MethodPurge<'r> {
    /// The method.
    pub method: &'r Method,
    /// The host and port that the request names.
    pub authority: &'r str,
    /// Path and query.
    pub target: &'r str,
    /// The fields.
    pub fields: &'r HeaderMap,
    /// Whether the request has a body.
    pub has_body: bool,
    /// Ports of the node's listeners.
    pub ports: &'r Ports,
}

/// Ports on which clients reach a node: URLs with these and without a port are purged together.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// In clear.
    pub http: Vec<u16>,
    /// Over TLS.
    pub https: Vec<u16>,
}

impl MethodPurge<'_> {
    /// Returns the order that the request stands for.
    ///
    /// URLs are purged under both schemes: plugins send their purges in clear to a node whose clients use TLS.
    ///
    /// # Errors
    ///
    /// The request has no known meaning (501), or names nothing (422).
    pub fn order(&self) -> Result<Order, Problem> {
        let name = self.method.as_str().to_ascii_uppercase();
        if !METHODS.contains(&name.as_str()) {
            let detail = format!(
                "the method {name} is not understood, and nothing was purged: send PURGE with the URL, or with tags in `xkey`"
            );
            return Err(not_understood("method", detail));
        }
        if self.has_body {
            let detail = "the body of a PURGE is not read, and nothing was purged: name what to purge by the URL and the fields, or send \
                          JSON to POST /v1/purge of the admin listener";
            return Err(not_understood("body", detail));
        }
        let selectors = Selectors::of(self.fields)?;
        let soft = selectors.soft || name == "SOFTPURGE";
        let order = match &selectors.tags {
            Some(tags) => of_tags(tags, &selectors)?,
            None if name == "PURGEKEYS" || name == "PURGETAGS" => {
                let detail = format!("{name} needs tags: in `xkey-purge`, `xkey-softpurge` or `X-Cache-Tags`");
                return Err(Problem::unprocessable("nothing-named", detail));
            }
            None => self.of_urls(&selectors, name == "BAN")?,
        };
        Ok(Order { soft, ..order })
    }

    /// The order for URLs of a host.
    fn of_urls(&self, selectors: &Selectors, is_ban: bool) -> Result<Order, Problem> {
        // In absolute-form the path may be empty.
        let target = if self.target.starts_with('/') { self.target.to_owned() } else { format!("/{}", self.target) };
        let text = selectors.pattern.as_deref().unwrap_or(&target);
        let urls = match selectors.mode {
            Mode::Exact => Some(Urls::Exactly(text.to_owned())).filter(|_| text.starts_with('/')),
            Mode::Pattern => pattern::of_regex(text),
            Mode::Unsaid if selectors.pattern.is_some() => pattern::of_regex(text),
            // In most VCL the target of a BAN is an expression; a target with a query is meant as a URL.
            Mode::Unsaid if is_ban && !text.contains('?') => pattern::of_regex(text),
            Mode::Unsaid => pattern::of_target(text),
        };
        let urls = urls.ok_or_else(|| refused_pattern(text))?;
        let hosts = match &selectors.hosts {
            None => vec![self.authority.to_owned()],
            Some(Names::These(hosts)) => hosts.clone(),
            Some(Names::All) if urls == Urls::Everything => return Ok(Order { all: true, ..Order::default() }),
            Some(Names::All) => {
                let detail = "a pattern that matches every host is understood for everything only, and nothing was purged: name the host";
                return Err(not_understood("host-pattern", detail));
            }
        };
        if let Some(host) = hosts.iter().find(|host| !is_authority(host.as_bytes())) {
            return Err(Problem::unprocessable("host", format!("{host:?} is no host, and nothing was purged")));
        }
        let mut order = Order::default();
        for host in &hosts {
            match &urls {
                Urls::Everything => order.hosts.extend(self.authorities(host)),
                Urls::Beginning(path) => {
                    order.prefixes.extend(self.authorities(host).into_iter().map(|host| format!("{host}{path}")));
                }
                Urls::Exactly(url) => {
                    order
                        .urls
                        .extend(aliases(host, &self.ports.http).into_iter().map(|host| format!("http://{host}{url}")));
                    order.urls.extend(
                        aliases(host, &self.ports.https).into_iter().map(|host| format!("https://{host}{url}")),
                    );
                }
            }
        }
        Ok(order)
    }

    /// All authorities under which clients may know a host.
    fn authorities(&self, host: &str) -> Vec<String> {
        aliases(host, &[&self.ports.http[..], &self.ports.https[..]].concat())
    }
}

/// A host as it is named, without its port, and with each of `ports`.
fn aliases(host: &str, ports: &[u16]) -> Vec<String> {
    let (name, _) = split_port(host.as_bytes());
    let name = host.get(..name.len()).unwrap_or(host);
    let mut all = vec![host.to_owned(), name.to_owned()];
    all.extend(ports.iter().map(|port| format!("{name}:{port}")));
    // In order, so that the same request makes the same order.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|one| seen.insert(one.clone()));
    all
}

/// The order for tags.
fn of_tags(tags: &Names, selectors: &Selectors) -> Result<Order, Problem> {
    if selectors.hosts.is_some() || selectors.pattern.is_some() {
        let detail = "tags together with a host or a pattern of URLs are not understood, and nothing was purged: send one PURGE for each";
        return Err(not_understood("combination", detail));
    }
    match tags {
        Names::All => Ok(Order { all: true, ..Order::default() }),
        Names::These(tags) if tags.is_empty() => {
            Err(Problem::unprocessable("nothing-named", "the field for tags names none, and nothing was purged"))
        }
        Names::These(tags) => Ok(Order { tags: tags.clone(), ..Order::default() }),
    }
}

/// 501: the request may be right for another cache, but has no meaning here.
fn not_understood(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, code, detail)
}

fn refused_pattern(text: &str) -> Problem {
    let detail = format!(
        "{text:?} is a pattern that no prefix is equivalent to, and nothing was purged: purge a prefix (`/blog/*`), everything (`/*`), \
         or by tags (`xkey: a b`); for a URL that is spelled so, add `X-Purge-Method: exact`"
    );
    not_understood("pattern", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a request.
    type Sent = &'static [(&'static str, &'static str)];

    fn order_of(method: &str, target: &str, lines: &[(&'static str, &str)]) -> Result<String, (u16, &'static str)> {
        let fields: HeaderMap =
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let method = method.parse().unwrap();
        let ports = Ports::default();
        let (authority, has_body) = ("a.org", false);
        let request = MethodPurge { method: &method, authority, target, fields: &fields, has_body, ports: &ports };
        let order = request.order().map_err(|problem| (problem.status, problem.code))?;
        Ok(serde_json::to_string(&order).unwrap())
    }

    #[test]
    fn what_plugins_send_is_translated() {
        let url = r#"{"urls":["http://a.org/a","https://a.org/a"]}"#;
        let all_of_host = r#"{"hosts":["a.org"]}"#;
        let blog = r#"{"prefixes":["a.org/blog/"]}"#;
        let table: &[(&str, &str, Sent, &str)] = &[
            ("PURGE", "/a", &[], url),
            ("purge", "/a", &[], url),
            ("URLPURGE", "/a", &[], url),
            ("PURGE", "/a", &[("x-purge-method", "default")], url),
            ("PURGE", "/a*", &[("x-purge-method", "exact")], r#"{"urls":["http://a.org/a*","https://a.org/a*"]}"#),
            ("PURGE", "/.*", &[("x-purge-method", "regex")], all_of_host),
            ("PURGE", "/.*", &[], all_of_host),
            ("PURGE", "/*", &[], all_of_host),
            ("PURGE", "/blog/.*", &[("x-purge-method", "Regex")], blog),
            ("PURGE", "/blog/*", &[], blog),
            ("PURGE", "/", &[("x-purge-regex", "^/blog/.*$")], blog),
            ("BAN", "/blog/", &[], blog),
            ("BAN", "/a?b=c", &[], r#"{"urls":["http://a.org/a?b=c","https://a.org/a?b=c"]}"#),
            ("BAN", "/", &[], all_of_host),
            (
                "BAN",
                "/",
                &[("x-host", "^(b\\.org)$"), ("x-url", ".*"), ("x-content-type", ".*")],
                r#"{"hosts":["b.org"]}"#,
            ),
            ("BAN", "/", &[("x-host", ".*"), ("x-url", ".*")], r#"{"all":true}"#),
            ("PURGE", "/", &[("xkey", "a b, c")], r#"{"tags":["a","b","c"]}"#),
            ("PURGE", "/", &[("surrogate-key", "a"), ("fastly-soft-purge", "1")], r#"{"tags":["a"],"soft":true}"#),
            ("PURGEKEYS", "/", &[("xkey-softpurge", "a b")], r#"{"tags":["a","b"],"soft":true}"#),
            ("PURGETAGS", "/", &[("x-cache-tags", "a,b")], r#"{"tags":["a","b"]}"#),
            ("BAN", "/", &[("x-cache-tags", "(^|,)(a|b)(,|$)")], r#"{"tags":["a","b"]}"#),
            ("BAN", "/", &[("cache-tags", "a|b")], r#"{"tags":["a","b"]}"#),
            ("PURGE", "/", &[("cache-tag", "a b, c")], r#"{"tags":["a b","c"]}"#),
            ("PURGE", "/", &[("x-magento-tags-pattern", "((^|,)a(,|$))|((^|,)b(,|$))")], r#"{"tags":["a","b"]}"#),
            ("PURGE", "/", &[("x-magento-tags-pattern", ".*")], r#"{"all":true}"#),
            ("SOFTPURGE", "/", &[("x-varnish", "7")], r#"{"urls":["http://a.org/","https://a.org/"],"soft":true}"#),
        ];
        for (method, target, fields, order) in table {
            assert_eq!(order_of(method, target, fields).as_deref(), Ok(*order), "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let table: &[(&str, &str, Sent, u16, &str)] = &[
            ("REFRESH", "/a", &[], 501, "method"),
            ("FULLBAN", "/a", &[], 501, "method"),
            ("PURGE", "/a/*/b", &[], 501, "pattern"),
            ("PURGE", "/(a|b)", &[("x-purge-method", "regex")], 501, "pattern"),
            ("PURGE", "/a", &[("x-purge-method", "fuzzy")], 501, "mode"),
            ("BAN", "/[0-9]+", &[], 501, "pattern"),
            ("BAN", "/", &[("x-host", ".*"), ("x-url", "/a")], 501, "host-pattern"),
            ("BAN", "/", &[("x-host", ".*\\.org"), ("x-url", "/a")], 501, "field-value"),
            ("BAN", "/", &[("x-content-type", "image")], 501, "field-value"),
            ("PURGE", "/", &[("x-magento-tags-pattern", "cat_[0-9]+")], 501, "field-value"),
            ("PURGE", "/", &[("xkey", "a"), ("x-host", "a.org")], 501, "combination"),
            ("PURGE", "/", &[("x-host", "a.org/b")], 422, "host"),
            ("PURGE", "/", &[("x-host", "a.org"), ("x-purge-host", "b.org")], 501, "field-value"),
            ("PURGE", "/", &[("x-url", "b"), ("x-purge-method", "exact")], 501, "pattern"),
            ("PURGE", "/", &[("x-litespeed-purge", "*")], 501, "field"),
            ("PURGE", "/", &[("x-varnish-ban", "x")], 501, "field"),
            ("PURGE", "/", &[("x-purge-url", "/a")], 501, "field"),
            ("PURGE", "/", &[("varnish-ban-all", "1")], 501, "field"),
            ("PURGE", "/", &[("x-location-id", "1")], 501, "field"),
            ("PURGE", "/", &[("xkey", " ")], 422, "nothing-named"),
            ("PURGEKEYS", "/", &[], 422, "nothing-named"),
        ];
        for (method, target, fields, status, code) in table {
            assert_eq!(order_of(method, target, fields), Err((*status, *code)), "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn a_url_is_purged_under_both_schemes_and_the_ports_of_the_node() {
        let ports = Ports { http: vec![8080], https: vec![8443] };
        let (method, fields) = (Method::from_bytes(b"PURGE").unwrap(), HeaderMap::new());
        let request = |target| MethodPurge {
            method: &method,
            authority: "a.org:8080",
            target,
            fields: &fields,
            has_body: false,
            ports: &ports,
        };
        let urls = [
            "http://a.org:8080/a",
            "http://a.org/a",
            "https://a.org:8080/a",
            "https://a.org/a",
            "https://a.org:8443/a",
        ];
        assert_eq!(request("/a").order().unwrap().urls, urls);
        assert_eq!(request("/*").order().unwrap().hosts, ["a.org:8080", "a.org", "a.org:8443"]);
        assert_eq!(MethodPurge { has_body: true, ..request("/a") }.order().unwrap_err().code, "body");
    }
}
