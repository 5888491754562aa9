//! Hit ratios over the size of the cache, as a picture.

use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition,
    WHITE,
};

use super::Ratio;

/// Each policy, how its line is called, and its colour, which people who see few colours can tell apart (Okabe and Ito).
const LINES: [(&str, &str, RGBColor); 3] = [
    ("optimum", "optimum (knows what comes)", RGBColor(0, 158, 115)),
    ("store", "Nearside", RGBColor(0, 114, 178)),
    ("lru", "LRU", RGBColor(213, 94, 0)),
];

/// Draws the hit ratio by requests of all policies as SVG.
///
/// # Errors
///
/// There is nothing to draw, or it cannot be drawn.
pub fn plot(ratios: &[Ratio]) -> Result<String, Box<dyn std::error::Error>> {
    let shares = || ratios.iter().map(|ratio| 100.0 * ratio.share);
    let (least, most) = (shares().fold(f64::INFINITY, f64::min), shares().fold(0.0, f64::max));
    if !(least > 0.0 && most > least) {
        return Err("a plot needs two sizes".into());
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc("size of the cache, % of all that is asked for")
            .y_desc("hits, % of requests")
            .draw()?;
        for (policy, name, colour) in LINES {
            let points = ratios.iter().filter(|ratio| ratio.policy == policy);
            let points = points.map(|ratio| (100.0 * ratio.share, 100.0 * ratio.requests));
            chart
                .draw_series(LineSeries::new(points, colour))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(RGBColor(160, 160, 160))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
