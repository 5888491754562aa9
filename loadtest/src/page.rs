//! A report as a page that needs nothing else: figures, and how latency, hits and the origin's share went.

use std::fmt::Write;

use crate::chart::{Chart, Line};
use crate::report::{Moment, Report};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
    h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}\
    td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}td{font-variant-numeric:tabular-nums}\
    svg{max-width:100%;height:auto}.bad{color:#b00020;font-weight:600}pre{background:#f5f5f5;padding:.6rem;overflow:auto}";

/// The page of a run. `command` is what repeats it.
#[must_use]
pub fn page(title: &str, command: &str, report: &Report) -> String {
    let mut page = String::new();
    let title = escape(title);
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n<pre>{}</pre>\n",
        escape(command)
    );
    page.push_str(&figures(report));
    for (heading, chart) in charts(report) {
        // Too short a run has no line to draw.
        if let Ok(svg) = chart.svg() {
            let _ = writeln!(page, "<h2>{heading}</h2>\n{svg}");
        }
    }
    page.push_str("</html>\n");
    page
}

fn figures(report: &Report) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("due", report.due.map_or_else(|| "as many as were answered".to_owned(), |due| due.to_string()));
    row("answered", report.answered.to_string());
    row("failed", report.failed.to_string());
    row("wrong", report.wrong.to_string());
    if let Some(failure) = &report.last_failure {
        row("last failure", failure.clone());
    }
    row("rate", format!("{:.1} answers/s over {:.1} s", report.rate, report.seconds));
    row("bytes", report.bytes.to_string());
    row("latency", report.latency_ms.to_string());
    for (status, count) in &report.statuses {
        row(&format!("status {status}"), count.to_string());
    }
    for (word, count) in &report.cache {
        row(&format!("cache: {word}"), count.to_string());
    }
    if let Some(ratio) = report.hit_ratio {
        row("hit ratio", format!("{:.2} %", 100.0 * ratio));
    }
    if let Some(origin) = report.origin {
        row("origin", format!("{} requests, {} bytes", origin.requests, origin.bytes));
    }
    for (host, seen) in &report.hosts {
        row(host, format!("{} answered, {}", seen.answered, seen.latency_ms));
    }
    let is_bad = |name: &str, value: &str| (name == "failed" || name == "wrong") && value != "0";
    let line = |(name, value): &(String, String)| {
        let class = if is_bad(name, value) { " class=\"bad\"" } else { "" };
        format!("<tr><th>{}</th><td{class}>{}</td></tr>\n", escape(name), escape(value))
    };
    format!("<table>\n{}</table>\n", rows.iter().map(line).collect::<String>())
}

fn charts(report: &Report) -> Vec<(&'static str, Chart<'static>)> {
    let over_time = |value: &dyn Fn(&Moment) -> Option<f64>| -> Vec<(f64, f64)> {
        report.timeline.iter().filter_map(|moment| Some((moment.at_seconds, value(moment)?))).collect()
    };
    let line = |name, value: &dyn Fn(&Moment) -> Option<f64>| Line { name, points: over_time(value) };
    let seconds = |y, top, lines| Chart { x: "seconds", y, x_log: false, top, lines, x_label: |x| format!("{x:.0}") };
    // The axis is how many are slower, so that the last few per mille have room.
    let percentiles = report.percentiles.iter().filter(|one| one.percentile < 100.0);
    let percentiles = percentiles.map(|one| (1.0 / (1.0 - one.percentile / 100.0), one.ms)).collect();
    let by_percentile = Chart {
        x: "percentile",
        y: "ms",
        x_log: true,
        top: None,
        lines: vec![Line { name: "latency", points: percentiles }],
        x_label: |x| format!("{} %", (1e5 * 100.0 * (1.0 - 1.0 / x)).round() / 1e5),
    };
    let latencies = vec![
        line("p50", &|moment| Some(moment.latency_ms.p50)),
        line("p99", &|moment| Some(moment.latency_ms.p99)),
        line("slowest", &|moment| Some(moment.latency_ms.max)),
    ];
    let rates = vec![line("answers", &|moment| Some(moment.rate)), line("of the origin", &|moment| moment.origin_rate)];
    vec![
        ("Latency over time", seconds("ms", None, latencies)),
        ("Latency by percentile", by_percentile),
        ("Requests per second", seconds("per second", None, rates)),
        (
            "Hit ratio",
            seconds("%", Some(100.0), vec![line("hits", &|moment| moment.hit_ratio.map(|ratio| 100.0 * ratio))]),
        ),
        (
            "Requests per second that reached the origin",
            seconds("per second", None, vec![line("origin", &|moment| moment.origin_rate)]),
        ),
    ]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::{Latency, Percentile};

    #[test]
    fn a_page_holds_the_figures_and_the_pictures_and_no_foreign_markup() {
        let latency_ms = Latency { p50: 1.0, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 };
        let moment = |at_seconds| Moment {
            at_seconds,
            rate: 10.0,
            failed: 0,
            hit_ratio: Some(0.5),
            origin_rate: Some(5.0),
            latency_ms,
        };
        let report = Report {
            due: Some(20),
            answered: 19,
            failed: 1,
            wrong: 0,
            last_failure: Some("<script>".to_owned()),
            seconds: 2.0,
            rate: 9.5,
            bytes: 19,
            statuses: BTreeMap::from([(200, 19)]),
            cache: BTreeMap::new(),
            hit_ratio: Some(0.5),
            origin: None,
            latency_ms,
            percentiles: [0.0, 50.0, 99.0, 100.0].map(|percentile| Percentile { percentile, ms: percentile }).to_vec(),
            hosts: BTreeMap::new(),
            timeline: vec![moment(0.0), moment(1.0)],
        };
        let page = page("a & b", "nearside loadtest --url \"x\"", &report);
        assert!(
            page.contains("<td class=\"bad\">1</td>") && page.contains("&lt;script&gt;") && page.contains("a &amp; b")
        );
        assert!(!page.contains("<script") && !page.contains("http-equiv") && !page.contains("src="));
        assert_eq!(page.matches("<svg").count(), 5);
    }
}
