//! The admin API: its shapes, its doors, its pages. What stands behind it is a [`Backend`]: a node, or the control process.
//!
//! Orders and receipts are [`order`] and [`receipt`]; who may do what is [`access`]; every error is a [`Problem`] (RFC 9457)
//! with a stable code. The shapes of Fastly and Cloudflare are in [`foreign`], those of Varnish in [`method`]: plugins that purge
//! those work when their endpoint is changed.
//!
//! **Invariant:** an order is understood, and whoever gives it is known to be allowed all of it, before any of it is done;
//! each change, and each that is refused, leaves one line in the audit log.

pub mod access;
mod book;
mod description;
pub mod events;
pub mod foreign;
mod look;
pub mod method;
mod page;
mod routes;
pub mod serve;
pub mod tap;

pub use access::{Access, Holder, is_asked_here};
pub use book::Book;
pub use events::Events;
pub use routes::{Backend, Ordered, Reach, carry_out, carry_out_signed, routes, understood};
pub use serve::{HostRule, ServeLimits, Server, ServerCounts, UnreadBody};
pub use tap::Tap;
