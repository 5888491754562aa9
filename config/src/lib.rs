//! The configuration of an edge or a shield: typed TOML, checked once.
//!
//! [`load`] reads a file into a [`Config`]; whatever is wrong with it is reported all at once, each problem with its
//! line, what was found, what is allowed and what to do, and nothing of the file is applied. After that no value is
//! checked again: the types carry the proof. Whether values go together is looked at once more when flags have changed
//! some of them ([`lint`]); what only the machine can tell (certificates, memory) is looked at by the crates that use it.
//!
//! `reference/*.toml` beside this crate explains every key; a test holds these files to the code.

mod decode;
pub mod files;
mod flaw;
pub mod lint;
mod mask;
mod model;
mod problem;
mod section;
mod values;

pub use decode::{is_control, is_wan, load, load_control, load_wan, parse, parse_wan};
pub use flaw::Flaw;
pub use model::{
    AccessLog, Answer, Cache, Config, ConfigFile, Console, ControlConfig, Dns, EventType, Fallback, Follows, Hook,
    Keep, Key, Languages, Limits, LogFormat, LogSink, Nats, NatsLogin, NodeCredential, NodeRole, Normalise, OnLag,
    OriginLimits, Part, Policy, Public, PublicUrl, PurgeLog, Quality, Role, RoundTrip, Scope, SecretFile, SetCookie,
    Signature, Site, SiteId, SiteTimeouts, Steering, Template, Timeouts, TlsListener, Token, Traces, Wan, WanLink,
    WanPlace, Webhook, default_id,
};
pub use problem::{ConfigError, Problem, Severity, render};
pub use values::{
    ByteSize, CookieName, FieldName, Fraction, HostPattern, HostPort, ListenAddress, NatsUrl, Network, NodeId,
    ParameterName, Secret, Span, StreamName, Upstream, ValueError,
};
