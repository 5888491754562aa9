//! What became of a request: one plain value from which `Cache-Status`, the access log and the metrics are printed, so
//! that they cannot disagree.

use std::sync::Arc;

use nearside_config::SiteId;
use nearside_semantics::cache_status::{Forward, Member};

use crate::reason::Reason;
use crate::server_timing::Wait;

/// What the cache did, in one word (the `cache` field of the log and label of the metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Answered with a fresh stored response.
    Hit,
    /// Answered with a stale one, because the next hop failed.
    Stale,
    /// Answered with a stale one, which is refreshed behind the client's back.
    Updating,
    /// Answered with a stored one after the next hop said that it has not changed.
    Revalidated,
    /// Answered from a forward that another request had begun.
    Collapsed,
    /// Nothing was stored; the answer is stored now.
    Miss,
    /// What was stored was stale; the next hop sent a new answer.
    Expired,
    /// A request that a cache does not answer: another method, a body, an upgrade.
    Bypass,
    /// The answer may not be stored.
    Uncacheable,
    /// The node answered by itself: a refusal, an admin answer.
    Synth,
    /// No answer could be had.
    Error,
}

impl Verdict {
    /// Whether the client was answered with what was there, or came on its way for another: nobody was asked for it alone.
    pub fn spares_the_next_hop(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::Updating | Self::Collapsed)
    }

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Hit,
        Self::Stale,
        Self::Updating,
        Self::Revalidated,
        Self::Collapsed,
        Self::Miss,
        Self::Expired,
        Self::Bypass,
        Self::Uncacheable,
        Self::Synth,
        Self::Error,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Updating => "updating",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Bypass => "bypass",
            Self::Uncacheable => "uncacheable",
            Self::Synth => "synth",
            Self::Error => "error",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// In one word.
    pub verdict: Verdict,
    /// Why it went forward, if it did.
    pub forward: Option<Forward>,
    /// What the next hop answered.
    pub forward_status: Option<u16>,
    /// Seconds of freshness left.
    pub ttl: Option<i64>,
    /// The answer is being stored.
    pub stored: bool,
    /// Why not, or why not otherwise.
    pub reason: Option<Reason>,
    /// Who was asked.
    pub upstream: Option<Arc<str>>,
    /// How long the client waited for them.
    pub wait: Option<Arc<Wait>>,
    /// The site, by its place in the configuration; `None` if the request belongs to none.
    pub site: Option<SiteId>,
}

impl Outcome {
    /// An outcome of which nothing more is known.
    #[must_use]
    pub const fn new(verdict: Verdict, site: Option<SiteId>) -> Self {
        Self {
            verdict,
            forward: None,
            forward_status: None,
            ttl: None,
            stored: false,
            reason: None,
            upstream: None,
            wait: None,
            site,
        }
    }

    /// What decided, as a reason.
    #[must_use]
    pub fn decision(&self) -> Reason {
        if let Some(reason) = self.reason {
            return reason;
        }
        match self.verdict {
            Verdict::Hit => Reason::Fresh,
            Verdict::Updating => Reason::WhileRevalidate,
            Verdict::Collapsed => Reason::Collapsed,
            // The client went away before anything was known.
            Verdict::Error | Verdict::Synth => Reason::ClientGone,
            _ => self.forward.map_or(Reason::UriMiss, Reason::from),
        }
    }

    /// The node's member of `Cache-Status`.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            forward: self.forward,
            forward_status: self.forward_status,
            ttl: self.ttl,
            stored: self.stored,
            collapsed: self.verdict == Verdict::Collapsed,
            answered: matches!(self.verdict, Verdict::Synth | Verdict::Error),
            detail: self.reason.map(Reason::token),
        }
    }
}
