//! A node, as far as this process knows it: whether it is reached, what it serves, how much it does.

use std::time::{Duration, Instant};

use nearside_config::HostPattern;
use nearside_protocol::Member;
use nearside_replication::{At, Totals};
use nearside_steering::EdgeState;
use serde::Serialize;

/// A node from which nothing was heard for so long cannot be reached.
pub(crate) const SILENT: Duration = Duration::from_secs(3);
/// What a node does in a second is worked out over so long at least.
const RATE_OVER: Duration = Duration::from_millis(900);

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) member: Member,
    /// The process.
    pub(super) instance: u64,
    pub(crate) at: Option<At>,
    pub(crate) heard: Instant,
    /// Connections on which it follows here.
    pub(super) streams: usize,
    /// The other control process that it follows.
    pub(super) elsewhere: Option<String>,
    /// Whether it was alive when it was looked last.
    pub(super) was_alive: bool,
    /// What it had done when it said so last.
    totals: Option<(Instant, Totals)>,
    pub(crate) rates: Rates,
    /// The hosts of its sites.
    patterns: Vec<HostPattern>,
}

/// What a node does in a second, as it was lately.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Rates {
    pub(crate) requests: f64,
    pub(crate) hits: f64,
    pub(crate) bytes: f64,
    pub(crate) forwards: f64,
}

impl Node {
    pub(super) fn new(member: Member, instance: u64, heard: Instant) -> Self {
        let patterns = patterns(&member);
        Self {
            member,
            instance,
            at: None,
            heard,
            streams: 0,
            elsewhere: None,
            was_alive: false,
            totals: None,
            rates: Rates::default(),
            patterns,
        }
    }

    /// It tells something else of itself.
    pub(super) fn is_now(&mut self, member: Member) {
        if self.member != member {
            self.patterns = patterns(&member);
            self.member = member;
        }
    }

    /// The node as an edge that clients can be sent to at `now`; `None` if clients cannot reach it.
    pub(crate) fn edge_state(&self, now: Instant, has_left: bool) -> Option<EdgeState<'_>> {
        self.member.reach.as_ref()?;
        let (is_alive, load) = if has_left { (false, None) } else { (self.is_alive(now), self.load()) };
        Some(EdgeState { member: &self.member, hosts: &self.patterns, is_alive, has_left, load })
    }

    /// How much of its capacity is in use, if it has told of any.
    pub(crate) fn load(&self) -> Option<f64> {
        let capacity = self.member.reach.as_ref()?.capacity?;
        #[expect(clippy::cast_precision_loss, reason = "of requests a second")]
        let capacity = capacity as f64;
        Some(self.rates.requests / capacity)
    }

    /// Client connections that it has.
    pub(crate) fn connections(&self) -> u64 {
        self.totals.map_or(0, |(_, totals)| totals.connections)
    }

    /// It says what it has done in all.
    pub(super) fn counts(&mut self, totals: Totals, now: Instant) {
        let Some((since, before)) = self.totals else {
            self.totals = Some((now, totals));
            return;
        };
        let span = now.saturating_duration_since(since);
        if span < RATE_OVER {
            return;
        }
        self.rates = Rates::between(&before, &totals, span);
        self.totals = Some((now, totals));
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        (self.streams > 0 || self.elsewhere.is_some()) && now.saturating_duration_since(self.heard) < SILENT
    }
}

impl Rates {
    fn between(before: &Totals, after: &Totals, span: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "of what is done in a second")]
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / span.as_secs_f64();
        Self {
            requests: rate(before.requests, after.requests),
            hits: rate(before.hits, after.hits),
            bytes: rate(before.bytes, after.bytes),
            forwards: rate(before.forwards, after.forwards),
        }
    }
}

/// The hosts of its sites, as patterns.
fn patterns(member: &Member) -> Vec<HostPattern> {
    member.sites.iter().flat_map(|site| &site.hosts).filter_map(|host| host.parse().ok()).collect()
}
