//! The targets of a purge request on this node: the sites and keys that it names.

use nearside_config::{Site, SiteId};
use nearside_protocol::order::{Parts, beginning, whole};
use nearside_protocol::{Order, Problem, PurgeTarget};
use nearside_semantics::key::Scheme;

use super::{Target, host as host_of};
use crate::request::Engine;
use crate::request::key::write_exact;
use crate::site::Rules;

/// What an order means on this node: of each thing that it names, the site and the target.
///
/// # Errors
///
/// A host, a URL or a site is unknown here, or does not belong to the site that the request names.
pub fn understand(engine: &Engine, order: &Order) -> Result<Vec<(SiteId, Target)>, Problem> {
    let find = |authority: &[u8]| engine.sites.find(authority);
    let rules = |site| engine.rules(site);
    Directory { sites: &engine.config.sites, find: &find, rules: &rules }.understand(order)
}

/// A site, and a key of it or what keys of it begin with.
type Keyed = (SiteId, Box<[u8]>);

/// The site and the key of a URL.
pub(crate) fn key_of(engine: &Engine, url: &str) -> Result<Keyed, Problem> {
    let find = |authority: &[u8]| engine.sites.find(authority);
    let rules = |site| engine.rules(site);
    Directory { sites: &engine.config.sites, find: &find, rules: &rules }.key_of(url)
}

/// The sites of a node, as purge requests name them.
struct Directory<'d> {
    /// In the order of their ids.
    sites: &'d [Site],
    /// The site that answers for an authority.
    find: &'d dyn Fn(&[u8]) -> Option<SiteId>,
    rules: &'d dyn Fn(SiteId) -> &'d Rules,
}

impl Directory<'_> {
    fn understand(&self, order: &Order) -> Result<Vec<(SiteId, Target)>, Problem> {
        let only = order.site.as_deref().map(|name| self.site_named(name)).transpose()?;
        let ids = || (0..self.sites.len()).map(SiteId::new);
        let sites = || ids().filter(move |site| only.is_none_or(|only| only == *site));
        let mut targets = Vec::new();
        for target in order.targets() {
            match target {
                PurgeTarget::Url(url) => {
                    let (site, key) = self.key_of(url)?;
                    self.own(only, site, url)?;
                    targets.push((site, Target::Url(key)));
                }
                PurgeTarget::Prefix(prefix) => {
                    for (site, key) in self.keys_of_prefix(prefix)? {
                        self.own(only, site, prefix)?;
                        targets.push((site, Target::Prefix(key)));
                    }
                }
                PurgeTarget::Host(host) => {
                    let site = self.site_of(host)?;
                    self.own(only, site, host)?;
                    // The default port of one scheme is a port like any other under the other scheme.
                    let [http, https] =
                        [Scheme::Http, Scheme::Https].map(|scheme| self.exact_key(site, scheme, host, "/"));
                    if host_of(&https) != host_of(&http) {
                        targets.push((site, Target::Host { site, key: https }));
                    }
                    targets.push((site, Target::Host { site, key: http }));
                }
                PurgeTarget::Tag(tag) => {
                    targets.extend(sites().map(|site| (site, Target::Tag { site, tag: tag.as_bytes().into() })));
                }
                PurgeTarget::Everything => targets.extend(sites().map(|site| (site, Target::Site(site)))),
            }
        }
        Ok(targets)
    }

    fn site_named(&self, name: &str) -> Result<SiteId, Problem> {
        let found = self.sites.iter().position(|site| site.name == name).map(SiteId::new);
        found.ok_or_else(|| {
            let known: Vec<_> = self.sites.iter().map(|site| site.name.as_str()).collect();
            let detail = format!("there is no site {name:?}; known here: {}", known.join(", "));
            Problem::unprocessable("unknown-site", detail)
        })
    }

    fn site_of(&self, authority: &str) -> Result<SiteId, Problem> {
        let unknown =
            || Problem::unprocessable("unknown-host", format!("no site of this node answers for {authority}"));
        (self.find)(authority.as_bytes()).ok_or_else(unknown)
    }

    /// Whether something is of the one site that an order is for.
    fn own(&self, only: Option<SiteId>, site: SiteId, what: &str) -> Result<(), Problem> {
        if only.is_none_or(|only| only == site) {
            return Ok(());
        }
        let name = self.sites.get(site.index()).map_or("another one", |site| site.name.as_str());
        let detail = format!("{what:?} is of the site {name:?}, not of the one that is named");
        Err(Problem::unprocessable("other-site", detail))
    }

    /// The site and the key of a URL.
    fn key_of(&self, url: &str) -> Result<Keyed, Problem> {
        let Parts { scheme, authority, target } = whole(url)?;
        let site = self.site_of(authority)?;
        Ok((site, self.exact_key(site, scheme, authority, target)))
    }

    /// The site and what its keys begin with; two where no scheme is named.
    fn keys_of_prefix(&self, prefix: &str) -> Result<Vec<Keyed>, Problem> {
        let Parts { scheme, authority, target: path } = beginning(prefix)?;
        let site = self.site_of(authority)?;
        let key = |scheme| (site, self.exact_key(site, scheme, authority, path));
        Ok(match scheme {
            Some(scheme) => vec![key(scheme)],
            None => vec![key(Scheme::Http), key(Scheme::Https)],
        })
    }

    fn exact_key(&self, site: SiteId, scheme: Scheme, authority: &str, target: &str) -> Box<[u8]> {
        let mut exact = Vec::new();
        write_exact((self.rules)(site), scheme, authority.as_bytes(), target.as_bytes(), &mut exact);
        exact.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{rules, site};

    /// What a node makes of an order that has two sites: `shop` answers for `a.org` and `www.a.org`, `blog` for `b.org`.
    fn understood(change: impl FnOnce(&mut Order)) -> Result<Vec<(usize, String)>, String> {
        let mut order = Order::default();
        change(&mut order);
        let sites = [site("shop", "a.org"), site("blog", "b.org")];
        let find = |authority: &[u8]| match authority {
            b"a.org" | b"www.a.org" | b"a.org:80" | b"a.org:443" => Some(SiteId::new(0)),
            b"b.org" => Some(SiteId::new(1)),
            _ => None,
        };
        let (shop, blog) = (rules(|_| {}), rules(|site| site.canonical_host = Some("b.org".to_owned())));
        let rules = |site: SiteId| if site.index() == 0 { &shop } else { &blog };
        let targets = Directory { sites: &sites, find: &find, rules: &rules }.understand(&order);
        let targets = targets.map_err(|problem| problem.code.to_owned())?;
        Ok(targets.into_iter().map(|(site, target)| (site.index(), told(&target))).collect())
    }

    fn told(target: &Target) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\n', " ");
        match target {
            Target::Url(key) => format!("url {}", text(key)),
            Target::Prefix(key) => format!("prefix {}", text(key)),
            Target::Tag { site, tag } => format!("tag {} {}", site.index(), text(tag)),
            Target::Host { site, key } => format!("host {} {}", site.index(), text(key)),
            Target::Site(site) => format!("site {}", site.index()),
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn found(targets: &[(usize, &str)]) -> Result<Vec<(usize, String)>, String> {
        Ok(targets.iter().map(|(site, target)| (*site, (*target).to_owned())).collect())
    }

    #[test]
    fn a_url_is_the_key_of_its_own_site() {
        let urls = |names: &'static [&str]| understood(|order| order.urls = texts(names));
        assert_eq!(urls(&["http://a.org/p?q"]), found(&[(0, "url http a.org /p?q")]));
        assert_eq!(
            urls(&["https://b.org/p", "http://a.org"]),
            found(&[(1, "url https b.org /p"), (0, "url http a.org /")])
        );
        assert_eq!(urls(&["http://a.org/p", "http://c.org/p"]), Err("unknown-host".to_owned()));
    }

    #[test]
    fn a_prefix_without_a_scheme_means_both() {
        let prefixes = |names: &'static [&str]| understood(|order| order.prefixes = texts(names));
        assert_eq!(prefixes(&["https://a.org/img/"]), found(&[(0, "prefix https a.org /img/")]));
        assert_eq!(
            prefixes(&["a.org/img/"]),
            found(&[(0, "prefix http a.org /img/"), (0, "prefix https a.org /img/")])
        );
        assert_eq!(prefixes(&["c.org/"]), Err("unknown-host".to_owned()));
    }

    #[test]
    fn a_host_with_the_default_port_of_one_scheme_is_two_hosts() {
        let hosts = |names: &'static [&str]| understood(|order| order.hosts = texts(names));
        assert_eq!(hosts(&["a.org"]), found(&[(0, "host 0 http a.org /")]));
        assert_eq!(hosts(&["a.org:80"]), found(&[(0, "host 0 https a.org:80 /"), (0, "host 0 http a.org /")]));
        assert_eq!(hosts(&["a.org:443"]), found(&[(0, "host 0 https a.org /"), (0, "host 0 http a.org:443 /")]));
    }

    #[test]
    fn a_tag_and_everything_concern_each_site_unless_one_is_named() {
        assert_eq!(
            understood(|order| order.tags = texts(&["t", "u"])),
            found(&[(0, "tag 0 t"), (1, "tag 1 t"), (0, "tag 0 u"), (1, "tag 1 u")])
        );
        assert_eq!(understood(|order| order.all = true), found(&[(0, "site 0"), (1, "site 1")]));
        let blog = |order: &mut Order| order.site = Some("blog".to_owned());
        let only = understood(|order| {
            blog(order);
            order.tags = texts(&["t"]);
            order.all = true;
        });
        assert_eq!(only, found(&[(1, "tag 1 t"), (1, "site 1")]));
    }

    #[test]
    fn an_order_for_one_site_may_not_name_what_is_of_another() {
        type Names = fn(&mut Order);
        let cases: [(&str, Names, Result<(), &str>); 6] = [
            ("shop", |order| order.urls = texts(&["http://a.org/p"]), Ok(())),
            ("blog", |order| order.urls = texts(&["http://a.org/p"]), Err("other-site")),
            ("blog", |order| order.prefixes = texts(&["a.org/"]), Err("other-site")),
            ("blog", |order| order.hosts = texts(&["a.org"]), Err("other-site")),
            ("blog", |order| order.hosts = texts(&["c.org"]), Err("unknown-host")),
            ("wiki", |order| order.all = true, Err("unknown-site")),
        ];
        for (site, names, expected) in cases {
            let found = understood(|order| {
                order.site = Some(site.to_owned());
                names(order);
            });
            assert_eq!(found.map(drop), expected.map_err(str::to_owned), "{site}");
        }
    }

    #[test]
    fn overlapping_targets_are_all_understood() {
        let order = understood(|order| {
            order.urls = texts(&["http://a.org/p"]);
            order.prefixes = texts(&["http://a.org/"]);
            order.hosts = texts(&["a.org"]);
            order.all = true;
        });
        let expected = ["url http a.org /p", "prefix http a.org /", "host 0 http a.org /", "site 0", "site 1"];
        assert_eq!(order.unwrap().into_iter().map(|(_, target)| target).collect::<Vec<_>>(), expected);
    }
}
