//! Checks of response bodies.

use nearside_loadtest::Check;

/// Check against the body that `nearside origin-sim` makes from `seed`. The body is computed once.
pub(crate) fn body_of(seed: u64, size: u64) -> Check {
    let body = nearside_origin_sim::body::bytes(seed, 0, size);
    std::sync::Arc::new(move |at, bytes| {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        body.get(start..start.saturating_add(bytes.len())).is_some_and(|expected| *expected == *bytes)
    })
}
