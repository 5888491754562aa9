//! Hit ratios over the size of the cache, as a picture.

use super::Ratio;
use crate::chart::{Chart, Line};

/// Each policy, and how its line is called.
const LINES: [(&str, &str); 3] = [("store", "Nearside"), ("lru", "LRU"), ("optimum", "optimum (knows what comes)")];

/// Draws the hit ratio by requests of all policies as SVG.
///
/// # Errors
///
/// There is nothing to draw, or it cannot be drawn.
pub fn plot(ratios: &[Ratio]) -> Result<String, Box<dyn std::error::Error>> {
    let line = |(policy, name)| {
        let points = ratios.iter().filter(|ratio| ratio.policy == policy);
        Line { name, points: points.map(|ratio| (100.0 * ratio.share, 100.0 * ratio.requests)).collect() }
    };
    let chart = Chart {
        x: "size of the cache, % of all that is asked for",
        y: "hits, % of requests",
        x_log: true,
        top: Some(100.0),
        lines: LINES.map(line).to_vec(),
        x_label: |x| format!("{x:.1}"),
    };
    chart.svg()
}
