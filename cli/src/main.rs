//! The program `nearside`: subcommands, exit codes, nothing else.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 69 node unreachable, 75 not all nodes in time, 77 token refused, 78
//! configuration invalid.

mod admin_client;
mod control;
mod demo;
mod diagnostics;
mod exit;
mod explain;
mod loadtest;
mod log;
mod node;
mod nodes;
mod port;
mod purge;
mod signals;
mod tools;
mod top;
mod verify;
mod wan_sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nearside_lab::output;

/// The default of the system returns memory late and splits it up under many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A CDN that anyone can run: caching edges near the users, a shield behind them, your origin at rest.
#[derive(Debug, Parser)]
#[command(name = "nearside", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an edge: the cache that faces clients
    Edge(node::EdgeArgs),
    /// Run a shield: the cache that faces edges, in front of the origin
    Shield(node::ShieldArgs),
    /// Run the control process: it carries purges to all nodes, and says what became of them
    Control(control::ControlArgs),
    /// Run an origin that does what each request says, for tests and demos
    OriginSim(tools::OriginSimArgs),
    /// Run a simulated WAN: what goes through it takes as long as between two cities, and can be cut, slowed and healed
    WanSim(wan_sim::WanSimArgs),
    /// Run a CDN on this machine: an origin, two shields, six edges, steering, and a WAN between them
    Demo(demo::DemoArgs),
    /// Six things that a CDN does, as commands with what they say, before a demo that runs
    Tour,
    /// Check a configuration file without applying it
    Check(tools::CheckArgs),
    /// Purge URLs, tags, prefixes, hosts or everything from nodes
    Purge(purge::PurgeArgs),
    /// Ask a node what becomes of a request, and why it is, or is not, served from the cache
    Explain(explain::ExplainArgs),
    /// Follow the requests that nodes answer, all or those for which an expression holds
    Log(log::LogArgs),
    /// Watch what nodes do: rates, verdicts, reasons, next hops, what is asked for most
    Top(top::TopArgs),
    /// Ask a node whether it is ready
    Status(tools::StatusArgs),
    /// Send requests at a fixed rate and measure the answers
    Loadtest(Box<loadtest::LoadtestArgs>),
    /// Print a completion script for a shell
    Completions(tools::CompletionsArgs),
    /// Print the manual page
    Man,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Before anything is started: each client and each next hop needs a file descriptor.
    let _ = nearside_node::raise_descriptor_limit();
    // Dependencies link two providers, between which rustls does not choose: without this, TLS of any of them panics.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match command {
        Command::Edge(args) => node::edge(args),
        Command::Shield(args) => node::shield(args),
        Command::Control(args) => control::control(&args),
        Command::OriginSim(args) => tools::origin_sim(&args),
        Command::WanSim(args) => wan_sim::wan_sim(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Tour => demo::tour(),
        Command::Check(args) => tools::check(&args),
        Command::Purge(args) => purge::purge(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Log(args) => log::log(&args),
        Command::Top(args) => top::top(&args),
        Command::Status(args) => tools::status(&args),
        Command::Loadtest(args) => loadtest::loadtest(&args),
        Command::Completions(args) => tools::completions(&args),
        Command::Man => tools::man(),
    };
    output::finish(match done {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    })
}
