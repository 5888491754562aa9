//! What goes forward: the plan of a fill, and the request as the next hop gets it.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RANGE, TE, UPGRADE, VIA};
use http::{HeaderMap, HeaderValue, Method};
use nearside_config::SiteId;
use nearside_semantics::conditional::{set_validators, strip_conditions};
use nearside_semantics::fields::strip_hop_by_hop;
use nearside_semantics::key::write_host;
use nearside_telemetry::Protocol;
use nearside_upstream::client_network::ClientNetwork;
use nearside_upstream::fields::{CDN_LOOP, PURGES, REFRESH, SECRET};
use nearside_upstream::{Forward, Urgency, unkeyed};

use super::key::CacheKey;
use super::lookup::{Ask, refreshes};
use super::{Engine, Request};
use crate::fill::Plan;
use crate::tier::{Sender, append};

/// Fields that a forward has beyond those of its request: `Forwarded`, `X-Forwarded-*`, `Via`, `CDN-Loop`, `traceparent`, what
/// `Connection` needs.
const FIELDS_ADDED: usize = 10;

/// A fill whose answer others may share: of the whole, and of nobody's own conditions.
pub(crate) fn plan(engine: &Engine, site: SiteId, request: &Request, key: CacheKey, ask: &Ask) -> Plan {
    let mut plan = plan_whole(engine, site, request, key);
    let fields = &mut plan.forward.fields;
    strip_conditions(fields);
    if plan.key.block.is_none() {
        fields.remove(RANGE);
    }
    if let Some(entry) = &ask.stored {
        set_validators(fields, &entry.head.fields);
        let nobody_waits = refreshes(engine, request);
        plan.forward.urgency = if nobody_waits { Urgency::Refresh } else { Urgency::Validation };
    }
    plan.forward.method = Method::GET;
    plan.stored.clone_from(&ask.stored);
    plan
}

/// The request as it came: conditions and ranges are the origin's business where nothing is stored.
pub(crate) fn plan_alone(engine: &Engine, site: SiteId, request: &Request, key: CacheKey) -> Plan {
    let mut plan = plan_whole(engine, site, request, key);
    for (name, value) in &request.signed_as_sent {
        plan.forward.fields.insert(name.clone(), value.clone());
        // What is stored of it is the variant of what was asked for.
        plan.request.insert(name.clone(), value.clone());
    }
    plan
}

/// The same with its fields normalised.
fn plan_whole(engine: &Engine, site: SiteId, request: &Request, key: CacheKey) -> Plan {
    let mut forward = engine.forward(site, request, engine.target(site, request));
    if let Some(range) = key.block.and_then(|block| block.range()) {
        forward.fields.insert(RANGE, range);
    }
    Plan { site, key, forward, stored: None, request: request.fields.clone(), own_location: false, background: false }
}

impl Engine {
    /// The target as the site's recipe has it: what is not in the cache key is not sent forward either.
    pub(crate) fn target(&self, site: SiteId, request: &Request) -> Box<[u8]> {
        let mut target = Vec::with_capacity(request.target.len());
        self.rules(site).query.write(&request.target, &mut target);
        target.into()
    }

    /// Network of the client that a request comes from in the end.
    pub(crate) fn client_network(&self, request: &Request) -> ClientNetwork {
        ClientNetwork::from_address(self.client_address(&request.fields, request.client.address()))
    }

    /// The request as it goes to the next hop: end-to-end fields, and where it has been (RFC 9110 §7.6).
    pub(crate) fn forward(&self, site: SiteId, request: &Request, target: Box<[u8]>) -> Forward {
        let mut fields = request.fields.clone();
        // At once what else would be made room for step by step.
        fields.reserve(FIELDS_ADDED);
        let rules = self.rules(site);
        unkeyed::strip(&mut fields, &request.method, |name| rules.is_in_key(name));
        let upgrade = upgrade_of(&fields, request.protocol);
        let trailers = nearside_semantics::fields::lists(&fields, &TE, b"trailers");
        strip_hop_by_hop(&mut fields);
        for name in [HOST, CONTENT_LENGTH, EXPECT, SECRET, REFRESH, PURGES] {
            fields.remove(name);
        }
        let scheme = self.client_scheme(request);
        // As it stands in the key: a spelling that is not in it must not reach the origin either.
        let authority = rules.canonical_host.as_ref().unwrap_or(&request.authority);
        let mut host = Vec::with_capacity(authority.len());
        write_host(scheme, authority.as_bytes(), &mut host);
        let authority = HeaderValue::from_bytes(&host).unwrap_or_else(|_| authority.clone());
        let address = request.client.value();
        let sender = Sender { address: &address, scheme, authority: &authority };
        self.tier.introduce(&sender, &mut fields);
        append(&mut fields, VIA, self.received_by.by(request.protocol));
        append(&mut fields, CDN_LOOP, &self.received_by.id);
        request.trace.carry_on(&mut fields);
        if trailers {
            // "A sender of TE MUST also send a \"TE\" connection option" (RFC 9110 §10.1.4).
            fields.insert(TE, HeaderValue::from_static("trailers"));
            fields.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(protocol) = upgrade {
            fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            fields.insert(UPGRADE, protocol);
        }
        Forward {
            method: request.method.clone(),
            target,
            authority,
            origin_host: rules.origin_host.clone(),
            fields,
            urgency: Urgency::Client,
            network: self.client_network(request),
            patience: rules.patience,
        }
    }
}

/// The protocol that an HTTP/1.1 request wants to change to. Only WebSocket is passed on: others, `h2c` above all, would
/// let a client speak to the next hop past everything that this node checks.
pub fn upgrade_of(fields: &HeaderMap, protocol: Protocol) -> Option<HeaderValue> {
    let wants = protocol == Protocol::Http11 && nearside_semantics::fields::lists(fields, &CONNECTION, b"upgrade");
    fields.get(UPGRADE).filter(|protocol| wants && protocol.as_bytes().eq_ignore_ascii_case(b"websocket")).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::fields;

    #[test]
    fn of_all_changes_of_protocols_only_websocket_on_http_1_1_is_passed_on() {
        let upgrade = ("connection", "Upgrade");
        for (version, lines, expected) in [
            (Protocol::Http11, &[upgrade, ("upgrade", "WebSocket")][..], true),
            (Protocol::Http11, &[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")], true),
            (Protocol::Http11, &[upgrade, ("upgrade", "h2c")], false),
            (Protocol::Http11, &[upgrade, ("upgrade", "websocket, h2c")], false),
            (Protocol::Http11, &[("upgrade", "websocket")], false),
            (Protocol::Http11, &[upgrade], false),
            (Protocol::Http10, &[upgrade, ("upgrade", "websocket")], false),
            (Protocol::Http2, &[upgrade, ("upgrade", "websocket")], false),
        ] {
            assert_eq!(upgrade_of(&fields(lines), version).is_some(), expected, "{version:?} {lines:?}");
        }
    }
}
