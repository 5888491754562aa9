//! What is shown of one moment: plain values from samples, without a terminal.

use std::time::Duration;

use nearside_diagnostics::visible_line;

use super::sample::{Sample, total, value};

/// So many rows of each table.
pub(crate) const ROWS_MAX: usize = 12;
/// What a hit is: the next hop was not asked for this request alone.
const SPARED: [&str; 4] = ["hit", "stale", "updating", "collapsed"];

/// A table with its title and the names of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

/// A node, and what it has counted in the last interval; nothing where it does not answer.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) counted: Option<Sample>,
}

/// All tables for what was counted within `span`; `keys` are the URLs that were asked for most, each with its count. Names of nodes,
/// labels and URLs are what others have said.
pub(crate) fn tables(nodes: &[Seen], keys: &[(String, u64)], span: Duration) -> Vec<Table> {
    let mut tables = raw_tables(nodes, keys, span);
    for cell in tables.iter_mut().flat_map(|table| &mut table.rows).flatten() {
        *cell = visible_line(cell).into_owned();
    }
    tables
}

fn raw_tables(nodes: &[Seen], keys: &[(String, u64)], span: Duration) -> Vec<Table> {
    let all = Sample::together(nodes.iter().filter_map(|node| node.counted.as_ref()));
    let per_second = Rate(span.as_secs_f64().max(f64::EPSILON));
    vec![
        Table {
            title: "nodes",
            columns: &[
                "node",
                "requests/s",
                "hits",
                "bytes/s",
                "open",
                "in flight",
                "objects",
                "memory",
                "purge",
                "lag",
            ],
            rows: nodes.iter().map(|node| of_node(node, per_second)).collect(),
        },
        Table { title: "verdicts", columns: &["cache", "requests/s", "p50", "p99"], rows: verdicts(&all, per_second) },
        Table { title: "reasons", columns: &["reason", "requests/s"], rows: reasons(&all, per_second) },
        Table {
            title: "next hops",
            columns: &["next hop", "in use", "requests/s", "p50", "p99", "under way", "waiting"],
            rows: next_hops(nodes, &all, per_second),
        },
        Table {
            title: "most asked for",
            columns: &["url", "requests/s"],
            rows: keys
                .iter()
                .take(ROWS_MAX)
                .map(|(key, count)| vec![key.clone(), per_second.of(*count as f64)])
                .collect(),
        },
    ]
}

/// Makes rates of counts.
#[derive(Clone, Copy)]
struct Rate(f64);

impl Rate {
    fn of(self, count: f64) -> String {
        short(count / self.0)
    }
}

fn of_node(node: &Seen, rate: Rate) -> Vec<String> {
    let Some(counted) = &node.counted else { return vec![node.name.clone(), "no answer".to_owned()] };
    let requests = "nearside_requests_total";
    let spared = |labels: &str| value(labels, "cache").is_some_and(|cache| SPARED.contains(&cache));
    let hits = total(counted.of(requests).filter(|(labels, _)| spared(labels)).map(|(_, count)| count));
    let all = counted.sum(requests);
    let ratio = if all > 0.0 { format!("{:.1} %", 100.0 * hits / all) } else { "-".to_owned() };
    let gauge = |name: &str| short(counted.sum(name));
    vec![
        node.name.clone(),
        rate.of(all),
        ratio,
        rate.of(counted.sum("nearside_response_bytes_total")),
        gauge("nearside_connections_open"),
        gauge("nearside_requests_in_flight"),
        gauge("nearside_cache_objects"),
        gauge("nearside_cache_bytes"),
        gauge("nearside_purge_log_sequence"),
        gauge("nearside_purge_log_lag"),
    ]
}

fn verdicts(all: &Sample, rate: Rate) -> Vec<Vec<String>> {
    let counts = by(all, "nearside_requests_total", "cache");
    let quantile =
        |cache: &str, part| seconds(all.quantile("nearside_request_duration_seconds", ("cache", cache), part));
    let row = |(cache, count): (String, f64)| {
        vec![cache.clone(), rate.of(count), quantile(&cache, 0.5), quantile(&cache, 0.99)]
    };
    counts.into_iter().map(row).collect()
}

fn reasons(all: &Sample, rate: Rate) -> Vec<Vec<String>> {
    let counts = by(all, "nearside_cache_decisions_total", "reason");
    counts.into_iter().take(ROWS_MAX).map(|(reason, count)| vec![reason, rate.of(count)]).collect()
}

fn next_hops(nodes: &[Seen], all: &Sample, rate: Rate) -> Vec<Vec<String>> {
    let sum = |name: &str, peer: &str| -> f64 {
        total(all.of(name).filter(|(labels, _)| value(labels, "peer") == Some(peer)).map(|(_, number)| number))
    };
    // Each node sees for itself whether a next hop is in use.
    let of = |peer: &str| {
        let all = nodes.iter().filter_map(|node| node.counted.as_ref());
        all.flat_map(|sample| sample.of("nearside_upstream_healthy"))
            .filter(|(labels, _)| value(labels, "peer") == Some(peer))
            .count()
    };
    let quantile =
        |peer: &str, part| seconds(all.quantile("nearside_upstream_request_duration_seconds", ("peer", peer), part));
    let row = |(peer, count): (String, f64)| {
        vec![
            peer.clone(),
            format!("{} of {}", sum("nearside_upstream_healthy", &peer), of(&peer)),
            rate.of(count),
            quantile(&peer, 0.5),
            quantile(&peer, 0.99),
            short(sum("nearside_upstream_in_flight", &peer)),
            short(sum("nearside_upstream_waiting", &peer)),
        ]
    };
    by(all, "nearside_upstream_requests_total", "peer").into_iter().take(ROWS_MAX).map(row).collect()
}

/// The series of a name by one of their labels, the largest first; nothing of which there was none, unless it is a next hop.
fn by(all: &Sample, name: &str, label: &str) -> Vec<(String, f64)> {
    let mut sums = std::collections::BTreeMap::<String, f64>::new();
    for (labels, count) in all.of(name) {
        *sums.entry(value(labels, label).unwrap_or_default().to_owned()).or_default() += count;
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, count)| *count > 0.0 || label == "peer").collect();
    sums.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    sums
}

/// A number that is easily read: 12, 3.4k, 5.6M.
fn short(number: f64) -> String {
    // The sum of nothing is -0.
    match number + 0.0 {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n >= 10.0 || n.fract() == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

/// A span that is easily read; the end of a bucket, so that it is "at most".
fn seconds(span: Option<f64>) -> String {
    match span {
        None => "-".to_owned(),
        Some(span) if span.is_infinite() => ">10 s".to_owned(),
        Some(span) if span >= 1.0 => format!("{span} s"),
        Some(span) if span >= 0.001 => format!("{} ms", span * 1e3),
        Some(span) => format!("{:.0} µs", span * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_terminals_obey_is_in_a_cell() {
        let lies = "\u{1b}[2J\n\u{202e}";
        let counted = Sample::parse(
            "nearside_requests_total{cache=\"\u{200f}\"} 1\nnearside_upstream_requests_total{peer=\"\u{9b}\"} 1\n",
        );
        let nodes = [Seen { name: lies.to_owned(), counted: Some(counted) }];
        let tables = tables(&nodes, &[(lies.to_owned(), 1)], Duration::from_secs(1));
        let cells: String = tables.iter().flat_map(|table| &table.rows).flatten().cloned().collect();
        assert!(cells.contains("\\u001b[2J\\u000a\\u202e") && cells.contains("\\u009b"), "{cells}");
        assert!(!cells.contains(|c: char| c.is_control() || c == '\u{202e}'), "{cells}");
    }

    #[test]
    fn tables_say_what_was_counted() {
        let counted = Sample::parse(
            "nearside_requests_total{site=\"s\",cache=\"hit\",code=\"200\"} 90\n\
             nearside_requests_total{site=\"s\",cache=\"miss\",code=\"200\"} 10\n\
             nearside_cache_decisions_total{reason=\"fresh\"} 90\nnearside_cache_decisions_total{reason=\"uri-miss\"} 10\n\
             nearside_cache_decisions_total{reason=\"private\"} 0\n\
             nearside_request_duration_seconds_bucket{le=\"0.00005\",cache=\"hit\"} 90\n\
             nearside_request_duration_seconds_bucket{le=\"+Inf\",cache=\"hit\"} 90\n\
             nearside_upstream_requests_total{peer=\"http://o\"} 10\nnearside_upstream_healthy{peer=\"http://o\"} 1\n\
             nearside_cache_bytes 12345678\n",
        );
        let nodes =
            [Seen { name: "a".to_owned(), counted: Some(counted) }, Seen { name: "b".to_owned(), counted: None }];
        let tables = tables(&nodes, &[("http://s/p".to_owned(), 50)], Duration::from_secs(2));
        let rows = |title: &str| tables.iter().find(|table| table.title == title).unwrap().rows.clone();
        assert_eq!(rows("nodes")[0][..4], ["a", "50", "90.0 %", "0"]);
        assert_eq!(
            (rows("nodes")[0][7].as_str(), &rows("nodes")[1][..]),
            ("12.3M", &["b".to_owned(), "no answer".to_owned()][..])
        );
        let missed = Sample::parse("nearside_requests_total{cache=\"miss\"} 1\n");
        let seen = Seen { name: "c".to_owned(), counted: Some(missed) };
        assert_eq!(of_node(&seen, Rate(1.0))[2..], ["0.0 %", "0", "0", "0", "0", "0", "0", "0"]);
        assert_eq!(rows("verdicts"), [["hit", "45", "50 µs", "50 µs"], ["miss", "5", "-", "-"]]);
        assert_eq!(rows("reasons"), [["fresh", "45"], ["uri-miss", "5"]]);
        assert_eq!(rows("next hops")[0][..3], ["http://o", "1 of 1", "5"]);
        assert_eq!(rows("most asked for"), [["http://s/p", "25"]]);
    }
}
