//! `nearside explain`: what becomes of a request at a node, and why, for people.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::Method;
use nearside_lab::http_client::{ANSWER_MAX, send_patiently};
use nearside_lab::{outln, output, usage};
use nearside_node::Reason;
use nearside_protocol::explanation::{Cause, Explanation, Freshness, Key, Near, Probe, Question, Stored, field};

use crate::admin_client::{Token, understood};
use crate::nodes::{Control, NodeName};

/// So long a probe may take: a node waits for a place at its origin, and for its first byte.
const PROBE_MAX: Duration = Duration::from_secs(90);

/// Flags of `nearside explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The URL that is asked for
    #[arg(value_name = "URL", required_unless_present = "reasons")]
    url: Option<String>,
    /// A field of the request, as "Name: value"; may repeat
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    fields: Vec<String>,
    /// The method of the request
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Ask the next hop too, and judge its answer; nothing of it is stored here
    #[arg(long)]
    probe: bool,
    /// The node: its admin listener, as an address or a URL, or its name
    #[arg(long = "node", value_name = "NODE", default_value = "127.0.0.1:7080")]
    node: NodeName,
    #[command(flatten)]
    control: Control,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    /// Print all reasons that there are, as Markdown
    #[arg(long, conflicts_with_all = ["url", "probe", "json"])]
    reasons: bool,
    #[command(flatten)]
    token: Token,
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    if args.reasons {
        output::print(format_args!("{}", Reason::page()));
        return Ok(ExitCode::SUCCESS);
    }
    let fields = args.fields.iter().map(|text| field(text).map_err(|problem| usage!("-H: {}", problem.detail)));
    let question = Question {
        url: args.url.clone().unwrap_or_default(),
        method: args.method.clone(),
        fields: fields.collect::<Result<_, _>>()?,
        probe: args.probe,
    };
    let token = args.token.read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = if question.probe { PROBE_MAX } else { ANSWER_MAX };
    let explanation: Explanation = runtime.block_on(async {
        let node = args.control.find_one(&args.node, token.as_ref()).await?;
        let url = node.url(&format!("/v1/explain?{}", question.query()));
        let reply = send_patiently(Method::GET, &url, None, token.as_ref(), patience).await?;
        understood(&node, &reply)
    })?;
    if args.json {
        outln!("{}", serde_json::to_string(&explanation)?);
    } else {
        output::print(format_args!("{}", page(&question, &explanation)?));
    }
    Ok(ExitCode::SUCCESS)
}

/// The explanation in words.
fn page(question: &Question, told: &Explanation) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    let site = told.site.as_deref().map(|site| format!(" (site {site})")).unwrap_or_default();
    writeln!(page, "{} {} at {}{site}", question.method, question.url, told.node)?;
    let why = &told.verdict.why;
    let forward = told.verdict.forward.as_deref().filter(|forward| *forward != why.reason);
    let forward = forward.map(|forward| format!(", fwd={forward}")).unwrap_or_default();
    writeln!(page, "{}{forward}: {}: {} ({})", told.verdict.cache, why.reason, why.meaning, why.section)?;
    for cause in &told.causes {
        write_cause(&mut page, cause)?;
    }
    if let Some(key) = &told.key {
        write_key(&mut page, key)?;
    }
    for stored in &told.stored {
        write_stored(&mut page, stored)?;
    }
    for near in &told.near {
        write_near(&mut page, near)?;
    }
    if let Some(probe) = &told.probe {
        write_probe(&mut page, probe)?;
    } else if told.verdict.forward.is_some() && !question.probe {
        writeln!(page, "\nWhat the next hop would answer is not known: --probe asks it.")?;
    }
    Ok(page)
}

fn write_cause(page: &mut String, cause: &Cause) -> std::fmt::Result {
    let Cause { why, evidence } = cause;
    writeln!(page, "\n{}: {}\n  {} ({})\n  {}", why.reason, evidence, why.meaning, why.section, why.cure)
}

fn write_key(page: &mut String, key: &Key) -> std::fmt::Result {
    let query = key.query.as_deref().map(|query| format!(" ?{query}")).unwrap_or_default();
    let block = key.block.map(|block| format!(", block {block}")).unwrap_or_default();
    writeln!(page, "\nkey: {} {} {}{query}{block}", key.scheme, key.host, key.path)?;
    if !key.ignored.is_empty() {
        writeln!(page, "  does not count: {}", key.ignored.join("&"))?;
    }
    for (name, value) in &key.selects {
        writeln!(page, "  selects a variant: {name}: {value}")?;
    }
    Ok(())
}

fn write_stored(page: &mut String, stored: &Stored) -> std::fmt::Result {
    let Stored { selected, status, bytes, variant, state, freshness, .. } = stored;
    let mark = if *selected { "stored" } else { "stored, for other requests" };
    writeln!(page, "\n{mark}: {status}, {bytes} bytes, {state}")?;
    if !variant.is_empty() {
        writeln!(page, "  answers: {variant}")?;
    }
    write_freshness(page, freshness)?;
    write_fields(page, &stored.fields)
}

fn write_freshness(page: &mut String, life: &Freshness) -> std::fmt::Result {
    let cap = life.capped_to.map(|cap| format!(", by max_ttl {cap} s")).unwrap_or_default();
    let stated = life.age_stated.map(|age| format!(", Age said {age}")).unwrap_or_default();
    let date = life.since_date.map(|late| format!(", {late} s after Date")).unwrap_or_default();
    writeln!(page, "  lifetime {} s ({}{cap})", life.lifetime, life.source)?;
    writeln!(page, "  age {} s: {} on arrival{stated}{date}, {} here", life.age, life.age_on_arrival, life.resident)?;
    writeln!(page, "  {} - {} = {} s left", life.lifetime, life.age, life.ttl)?;
    for (name, window) in
        [("while it is refreshed", life.stale_while_revalidate), ("when the next hop fails", life.stale_if_error)]
    {
        if window > 0 {
            writeln!(page, "  then {window} s more {name}")?;
        }
    }
    Ok(())
}

fn write_fields(page: &mut String, fields: &[(String, String)]) -> std::fmt::Result {
    fields.iter().try_for_each(|(name, value)| writeln!(page, "  {name}: {value}"))
}

fn write_near(page: &mut String, near: &Near) -> std::fmt::Result {
    writeln!(page, "\nnear keys, {}: {}", near.reason, near.keys)?;
    near.examples.iter().try_for_each(|example| writeln!(page, "  {example}"))
}

fn write_probe(page: &mut String, probe: &Probe) -> std::fmt::Result {
    let kept = if probe.stored { "would be stored" } else { "would not be stored" };
    writeln!(page, "\n{} answered {} in {:.1} ms; it {kept}", probe.hop, probe.status, probe.milliseconds)?;
    write_freshness(page, &probe.freshness)?;
    write_fields(page, &probe.fields)
}
