//! The law as tables of cases: a request head, a response head, seconds passed, and what must come out. One file a
//! section; reviewers read cases, not code.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod heads;
mod key;
mod no_vary_search;
mod pingora_parser;
mod properties;
mod rfc5861_stale;
mod rfc9110_s12_5_negotiation;
mod rfc9110_s13_conditionals;
mod rfc9110_s14_ranges;
mod rfc9110_s14_resume;
mod rfc9111_s3_storing;
mod rfc9111_s4_1_vary;
mod rfc9111_s4_2_1_lifetime;
mod rfc9111_s4_2_2_heuristic;
mod rfc9111_s4_2_4_stale;
mod rfc9111_s4_2_freshness;
mod rfc9111_s4_3_4_freshening;
mod rfc9111_s4_3_5_head;
mod rfc9111_s4_4_invalidation;
mod rfc9111_s5_2_1_request_directives;
mod rfc9213_targeted;
mod rfc9875_groups;
