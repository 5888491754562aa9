//! What the control process tells others, and what others tell it.

use std::str::FromStr;

use crate::values::{Secret, ValueError};

/// One who is told what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it listens.
    pub url: String,
    /// What it is signed with.
    pub secret: Secret,
    /// The types of events that it is told of; empty: all.
    pub events: Vec<EventType>,
}

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A purge was accepted.
    Purge,
    /// A node has applied one.
    Receipt,
    /// A node can be reached.
    NodeUp,
    /// A node cannot be reached any more.
    NodeDown,
}

impl EventType {
    /// As it stands in an event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Receipt => "receipt",
            Self::NodeUp => "node-up",
            Self::NodeDown => "node-down",
        }
    }
}

impl FromStr for EventType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let all = [Self::Purge, Self::Receipt, Self::NodeUp, Self::NodeDown];
        let wanted = || ValueError("\"purge\", \"receipt\", \"node-up\" or \"node-down\"".to_owned());
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(wanted)
    }
}

/// One whose events purge something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its place: `/v1/hooks/NAME`.
    pub name: String,
    /// What its events are signed with.
    pub secret: Secret,
    /// How.
    pub signature: Signature,
    /// The site that it may purge.
    pub site: String,
    /// What of an event becomes tags, URLs and prefixes: text with `{/json/pointer}` in it.
    pub tags: Vec<Template>,
    /// The same for URLs.
    pub urls: Vec<Template>,
    /// The same for prefixes.
    pub prefixes: Vec<Template>,
    /// Purges are soft.
    pub soft: bool,
}

/// How an event is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signature {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    #[default]
    Standard,
    /// As GitHub does: `X-Hub-Signature-256`.
    Github,
}

impl FromStr for Signature {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "standard" => Ok(Self::Standard),
            "github" => Ok(Self::Github),
            _ => Err(ValueError("\"standard\" or \"github\"".to_owned())),
        }
    }
}

/// Text in which pointers into an event stand: `product-{/id}`, `{/Records/*/s3/object/key}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// The steps to a value (RFC 6901); `*` is every member of an array.
    Pointer(Vec<String>),
}

impl Template {
    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl FromStr for Template {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || {
            ValueError("text with pointers into the event, as in \"product-{/id}\" or \"{/Records/*/key}\"".to_owned())
        };
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (pointer, after) = behind.split_once('}').ok_or_else(wanted)?;
            let steps = pointer.strip_prefix('/').ok_or_else(wanted)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            // RFC 6901 §4
            let step = |step: &str| step.replace("~1", "/").replace("~0", "~");
            parts.push(Part::Pointer(steps.split('/').map(step).collect()));
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(wanted());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}
