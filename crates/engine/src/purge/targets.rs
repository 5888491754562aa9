//! The targets of a purge request on this node: the sites and keys that it names.

use nearside_config::SiteId;
use nearside_protocol::order::{Parts, beginning, whole};
use nearside_protocol::{Order, Problem};
use nearside_semantics::key::Scheme;

use super::{Target, host as host_of};
use crate::request::Engine;

/// What an order means on this node: of each thing that it names, the site and the target.
///
/// # Errors
///
/// A host, a URL or a site is unknown here, or does not belong to the site that the request names.
pub fn understand(engine: &Engine, order: &Order) -> Result<Vec<(SiteId, Target)>, Problem> {
    let only = order.site.as_deref().map(|name| site_named(engine, name)).transpose()?;
    let sites = || engine.config.site_ids().filter(move |site| only.is_none_or(|only| only == *site));
    let mut targets = Vec::new();
    for url in &order.urls {
        let (site, key) = key_of(engine, url)?;
        own(engine, only, site, url)?;
        targets.push((site, Target::Url(key)));
    }
    for prefix in &order.prefixes {
        for (site, key) in keys_of_prefix(engine, prefix)? {
            own(engine, only, site, prefix)?;
            targets.push((site, Target::Prefix(key)));
        }
    }
    for host in &order.hosts {
        let site = site_of(engine, host)?;
        own(engine, only, site, host)?;
        // The default port of one scheme is a port like any other under the other scheme.
        let [http, https] =
            [Scheme::Http, Scheme::Https].map(|scheme| engine.exact_key(site, scheme, host.as_bytes(), b"/"));
        if host_of(&https) != host_of(&http) {
            targets.push((site, Target::Host { site, key: https }));
        }
        targets.push((site, Target::Host { site, key: http }));
    }
    for tag in &order.tags {
        targets.extend(sites().map(|site| (site, Target::Tag { site, tag: tag.as_bytes().into() })));
    }
    if order.all {
        targets.extend(sites().map(|site| (site, Target::Site(site))));
    }
    Ok(targets)
}

fn site_named(engine: &Engine, name: &str) -> Result<SiteId, Problem> {
    let sites = &engine.config.sites;
    let found = sites.iter().position(|site| site.name == name).map(SiteId::new);
    found.ok_or_else(|| {
        let known: Vec<_> = sites.iter().map(|site| site.name.as_str()).collect();
        Problem::unprocessable("unknown-site", format!("there is no site {name:?}; known here: {}", known.join(", ")))
    })
}

fn site_of(engine: &Engine, authority: &str) -> Result<SiteId, Problem> {
    let unknown = || Problem::unprocessable("unknown-host", format!("no site of this node answers for {authority}"));
    engine.sites.find(authority.as_bytes()).ok_or_else(unknown)
}

/// Whether something is of the one site that an order is for.
fn own(engine: &Engine, only: Option<SiteId>, site: SiteId, what: &str) -> Result<(), Problem> {
    if only.is_none_or(|only| only == site) {
        return Ok(());
    }
    let name = engine.config.site(site).map_or("another one", |site| site.name.as_str());
    Err(Problem::unprocessable("other-site", format!("{what:?} is of the site {name:?}, not of the one that is named")))
}

/// A site, and a key of it or what keys of it begin with.
type Keyed = (SiteId, Box<[u8]>);

/// The site and the key of a URL.
pub(crate) fn key_of(engine: &Engine, url: &str) -> Result<Keyed, Problem> {
    let Parts { scheme, authority, target } = whole(url)?;
    let site = site_of(engine, authority)?;
    Ok((site, engine.exact_key(site, scheme, authority.as_bytes(), target.as_bytes())))
}

/// The site and what its keys begin with; two where no scheme is named.
fn keys_of_prefix(engine: &Engine, prefix: &str) -> Result<Vec<Keyed>, Problem> {
    let Parts { scheme, authority, target: path } = beginning(prefix)?;
    let site = site_of(engine, authority)?;
    let key = |scheme| (site, engine.exact_key(site, scheme, authority.as_bytes(), path.as_bytes()));
    Ok(match scheme {
        Some(scheme) => vec![key(scheme)],
        None => vec![key(Scheme::Http), key(Scheme::Https)],
    })
}
