//! Checks of response bodies.

use nearside_loadtest::Check;

/// Compares with the body of `seed`, which is made once.
pub(crate) fn body_of(seed: u64, size: u64) -> Check {
    let body = nearside_origin_sim::body::bytes(seed, 0, size);
    std::sync::Arc::new(move |at, bytes| {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        body.get(start..start.saturating_add(bytes.len())).is_some_and(|expected| *expected == *bytes)
    })
}
