//! Pictures, as SVG: lines over an axis, and bars beside each other.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor, Rectangle,
    SVGBackend, SeriesLabelPosition, Text, WHITE,
};

/// Colours that people who see few can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(160, 160, 160);
const SIZE: (u32, u32) = (800, 420);

/// A picture with lines.
#[derive(Debug, Clone)]
pub(crate) struct Chart<'c> {
    /// What lies along the bottom.
    pub(crate) x: &'c str,
    /// What goes up the side.
    pub(crate) y: &'c str,
    /// Steps along the bottom are factors; all values there have to be more than 0.
    pub(crate) x_log: bool,
    /// As high as this; as high as the highest value if it is left out.
    pub(crate) top: Option<f64>,
    /// The lines, each in a colour of its own.
    pub(crate) lines: Vec<Line<'c>>,
    /// What is written at the bottom in place of numbers.
    pub(crate) x_label: fn(f64) -> String,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line<'c> {
    /// How it is called.
    pub(crate) name: &'c str,
    /// Where it goes.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// Draws it.
    ///
    /// # Errors
    ///
    /// There are no two places along the bottom, or it cannot be drawn.
    pub(crate) fn svg(&self) -> Result<String, Box<dyn Error>> {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let least = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
        let most = points().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
        if !(most > least && least.is_finite() && most.is_finite()) {
            return Err("a chart needs two places along the bottom".into());
        }
        let highest = points().map(|(_, y)| y).fold(0.0, f64::max);
        let top = self.top.unwrap_or(if highest > 0.0 { highest * 1.05 } else { 1.0 });
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            if self.x_log {
                self.draw(&area, (least..most).log_scale(), top)?;
            } else {
                self.draw(&area, least..most, top)?;
            }
            area.present()?;
        }
        Ok(svg)
    }

    fn draw<X>(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, x: X, top: f64) -> Result<(), Box<dyn Error>>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(area);
        builder.margin(16).x_label_area_size(44).y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(x, 0.0..top)?;
        let x_label = |x: &f64| (self.x_label)(*x);
        chart.configure_mesh().x_desc(self.x).y_desc(self.y).x_label_formatter(&x_label).draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        if self.lines.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(GREY).draw()?;
        }
        Ok(())
    }
}

/// A picture with groups of bars beside each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars<'c> {
    /// What goes up the side.
    pub y: &'c str,
    /// The groups, along the bottom.
    pub groups: Vec<&'c str>,
    /// The bars of each group: each its name, and its height in every group; nothing where there is none.
    pub bars: Vec<(&'c str, Vec<Option<f64>>)>,
}

impl Bars<'_> {
    /// Draws it.
    ///
    /// # Errors
    ///
    /// There is nothing to draw, or it cannot be drawn.
    pub fn svg(&self) -> Result<String, Box<dyn Error>> {
        let highest = self.bars.iter().flat_map(|(_, heights)| heights.iter().flatten()).copied().fold(0.0, f64::max);
        if highest <= 0.0 {
            return Err("bars need a height".into());
        }
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&area, highest * 1.1)?;
            area.present()?;
        }
        Ok(svg)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, top: f64) -> Result<(), Box<dyn Error>> {
        area.fill(&WHITE)?;
        let (groups, bars) = (count(self.groups.len()), count(self.bars.len()));
        let mut builder = ChartBuilder::on(area);
        builder.margin(16).x_label_area_size(44).y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(0.0..groups, 0.0..top)?;
        chart.configure_mesh().disable_x_mesh().disable_x_axis().y_desc(self.y).draw()?;
        // A tenth of each group is room at its sides.
        let (wide, side) = (0.8 / bars, 0.1);
        for ((place, (name, heights)), colour) in self.bars.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let left = |group: usize| count(group) + side + count(place) * wide;
            let known = heights.iter().enumerate().filter_map(|(group, height)| Some((group, (*height)?)));
            let bar = |(group, height)| {
                Rectangle::new([(left(group), 0.0), (left(group) + wide * 0.92, height)], colour.filled())
            };
            chart
                .draw_series(known.map(bar))?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        let names = self.groups.iter().enumerate();
        let under = names
            .map(|(group, name)| Text::new((*name).to_owned(), (count(group) + side, -top * 0.03), ("sans-serif", 14)));
        chart.draw_series(under)?;
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(GREY).draw()?;
        Ok(())
    }
}

fn count(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few things to draw")]
    let count = count as f64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bars_are_drawn_and_what_cannot_be_drawn_is_said() {
        let line = |points: &[(f64, f64)]| Line { name: "a <b>", points: points.to_vec() };
        let chart = |lines| Chart { x: "x", y: "y", x_log: true, top: None, lines, x_label: |x| format!("{x} %") };
        let svg = chart(vec![line(&[(1.0, 2.0), (100.0, 3.0)]), line(&[(1.0, 0.0)])]).svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("10 %") && svg.contains("a &lt;b&gt;"), "{svg}");
        assert!(chart(vec![line(&[(1.0, 2.0)])]).svg().is_err());
        assert!(chart(Vec::new()).svg().is_err());
        let bars = |height| Bars { y: "y", groups: vec!["g"], bars: vec![("b", vec![height])] }.svg();
        assert!(bars(Some(2.0)).unwrap().contains("<rect"));
        assert!(bars(None).is_err());
    }
}
