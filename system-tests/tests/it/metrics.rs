//! Metrics: what is written of them is what nodes say.

use std::collections::BTreeSet;
use std::fmt::Write;

use http::Method;
use nearside_config::Follows;
use serde_json::json;

use crate::bed::{Bed, HOST, get_here};
use crate::fleet::Controller;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// A table of what a scrape says.
fn table(scrape: &str) -> String {
    let mut table = "| metric | type | labels | what it is, and what to do |\n|---|---|---|---|\n".to_owned();
    let mut lines = scrape.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap();
        let total = if kind == "counter" { "_total" } else { "" };
        let mut labels = BTreeSet::new();
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let inside =
                sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
            labels.extend(inside.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned()));
        }
        // Of its buckets.
        labels.remove("le");
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        writeln!(table, "| `{name}{total}` | {kind} | {labels} | {help} |").unwrap();
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_nodes_and_control_say() {
    let control = Controller::new(|_| {});
    let address = control.address;
    let bed = Bed::tls_with(|config| {
        config.control = Some(Follows {
            addresses: vec![crate::bed::upstream(address)],
            secret: None,
            lag_max: std::time::Duration::from_secs(5),
        });
    })
    .await;
    control.until(&[("edge", "ready")]).await;
    bed.get("/p?cc=max-age%3D60").await;
    control.purge(json!({ "urls": [format!("http://{HOST}/p")] })).await;
    bed.until_metric("nearside_purge_log_sequence 1").await;
    bed.until_metric("nearside_requests_total{site=\"site\",cache=\"miss\",code=\"200\",proto=\"http/1.1\"} 1").await;
    let node = String::from_utf8(bed.admin(Method::GET, "/metrics", "").await.body.to_vec()).unwrap();
    let of_control = String::from_utf8(get_here(address, "/metrics").await.body.to_vec()).unwrap();
    let mut page = "# Metrics\n\nMade from a scrape, and held to it by a test: `NEARSIDE_WRITE=1 cargo test -p nearside-system-tests --test it \
        metrics` writes it anew. No label\ncomes off the wire. `cache` is the verdict in one word, `reason` one of \
        [reasons.md](reasons.md), `peer` a next hop. Alert rules and a board for Grafana\nare in [observability](observability).\n\n\
        ## Of edges and shields\n\n"
        .to_owned();
    page += &table(&node);
    page += "\n## Of the control process\n\n";
    page += &table(&of_control);
    if std::env::var_os("NEARSIDE_WRITE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let missing: Vec<_> = page.lines().filter(|line| !written.lines().any(|known| known == *line)).collect();
    let gone: Vec<_> = written.lines().filter(|line| !page.lines().any(|known| known == *line)).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in docs/metrics.md: {missing:#?}; no longer so: {gone:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_help_says_what_to_do_and_buckets_end_in_infinity() {
    let bed = Bed::new().await;
    bed.get("/p").await;
    bed.until_metric("nearside_connections_total 1").await;
    let scrape = String::from_utf8(bed.admin(Method::GET, "/metrics", "").await.body.to_vec()).unwrap();
    for help in scrape.lines().filter(|line| line.starts_with("# HELP ")) {
        assert!(help.contains(". ") || help.contains(": ") || help.contains("; "), "{help}");
    }
    let counts = scrape.lines().filter(|line| line.contains("_count")).count();
    assert_eq!(scrape.lines().filter(|line| line.contains("le=\"+Inf\"")).count(), counts, "{scrape}");
}
