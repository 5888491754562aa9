//! `nearside loadtest simulate`: hit ratios of a trace, without any traffic.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use nearside_config::ByteSize;
use nearside_loadtest::simulate::{Made, Ratio, Trace, behind, plot, simulate};

/// Flags of `nearside loadtest simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// An access log in JSON to replay, "-" for standard input; else a trace is made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["requests", "objects", "skew", "once", "scan_every", "scan_length", "drift_every", "size", "spread", "seed"])]
    log: Option<PathBuf>,
    /// Only what so many caches in front have missed, as a shield sees it; each request comes to one of them
    #[arg(long, value_name = "N")]
    behind: Option<usize>,
    /// The size of each of those, as a share of all that is asked for
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, requires = "behind")]
    front_size: f64,
    /// Sizes of the cache, as shares of all that is asked for
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_values_t = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3])]
    sizes: Vec<f64>,
    /// Requests of a made trace
    #[arg(long, value_name = "N", default_value_t = Made::default().requests)]
    requests: usize,
    /// Objects that are popular by rank
    #[arg(long, value_name = "N", default_value_t = Made::default().objects)]
    objects: u32,
    /// The n-th object is asked for in proportion to 1/n to this power (Zipf); 0: all alike
    #[arg(long, value_name = "S", default_value_t = Made::default().skew)]
    skew: f64,
    /// The share of requests for what is asked for once
    #[arg(long, value_name = "SHARE", default_value_t = Made::default().once)]
    once: f64,
    /// After so many requests somebody asks for a run of objects; 0: nobody does
    #[arg(long, value_name = "N", default_value_t = Made::default().scan_every)]
    scan_every: usize,
    /// How long a run is
    #[arg(long, value_name = "N", default_value_t = Made::default().scan_length)]
    scan_length: usize,
    /// After so many requests the most popular object becomes the least popular; 0: never
    #[arg(long, value_name = "N", default_value_t = Made::default().drift_every)]
    drift_every: usize,
    /// The median size of an object
    #[arg(long, value_name = "SIZE", default_value = "16KiB")]
    size: ByteSize,
    /// The spread of the logarithm of sizes (log-normal); 0: all alike
    #[arg(long, value_name = "SIGMA", default_value_t = Made::default().size_spread)]
    spread: f64,
    /// Another number, another trace
    #[arg(long, value_name = "N", default_value_t = Made::default().seed)]
    seed: u64,
    /// Draw the ratios into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Replays or makes a trace, and prints the hit ratios.
///
/// # Errors
///
/// [`UsageError`](crate::UsageError) where a flag is out of its range; a file cannot be read or written.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let right = |share: &f64| (0.0..=1e6).contains(share) && *share > 0.0;
    let wrong = if !args.sizes.iter().all(right) {
        Some("--sizes: each is a share above 0, as in 0.01 for a hundredth")
    } else if args.front_size <= 0.0 || args.behind == Some(0) {
        Some("--behind: at least one cache, --front-size: a share above 0")
    } else if !(0.0..=1.0).contains(&args.once) {
        Some("--once: a share from 0 to 1")
    } else if !((0.0..=10.0).contains(&args.skew) && (0.0..=5.0).contains(&args.spread)) {
        Some("--skew: 0 to 10; --spread: 0 to 5")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(usage!("{wrong}"));
    }
    let trace = match &args.log {
        Some(path) => read(path)?,
        None => made(args).trace(),
    };
    let trace = match args.behind {
        Some(caches) => behind(&trace, caches, args.front_size),
        None => trace,
    };
    let ratios = simulate(&trace, &args.sizes);
    if let Some(path) = &args.plot {
        let picture = plot(&ratios).map_err(|error| anyhow!("--plot: {error}"))?;
        std::fs::write(path, picture).with_context(|| format!("--plot {}: cannot be written", path.display()))?;
    }
    if args.json {
        outln!("{}", serde_json::to_string(&ratios)?);
    } else {
        print(&trace, &ratios);
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Trace> {
    let name = path.display();
    let input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(|| format!("--log {name}: cannot be read"))?))
    };
    Trace::of_log(input).with_context(|| format!("--log {name}"))
}

fn made(args: &SimulateArgs) -> Made {
    let ByteSize(size) = args.size;
    #[expect(clippy::cast_precision_loss, reason = "a size of an object")]
    let size_median = size as f64;
    Made {
        requests: args.requests,
        objects: args.objects,
        skew: args.skew,
        once: args.once,
        scan_every: args.scan_every,
        scan_length: args.scan_length,
        drift_every: args.drift_every,
        size_median,
        size_spread: args.spread,
        seed: args.seed,
    }
}

fn print(trace: &Trace, ratios: &[Ratio]) {
    outln!("{} requests for {} objects of {} bytes together", trace.requests.len(), trace.objects(), trace.footprint());
    outln!("hits, % of requests (% of bytes)\n");
    outln!("{:>8}  {:>14}  {:>15}  {:>15}  {:>15}", "size", "bytes", "store", "lru", "optimum");
    for size in ratios.chunk_by(|one, other| one.bytes == other.bytes) {
        let cell = |policy: &str| {
            let found = size.iter().find(|ratio| ratio.policy == policy);
            found.map_or_else(String::new, |ratio| {
                format!("{:.1} ({:.1})", 100.0 * ratio.requests, 100.0 * ratio.traffic)
            })
        };
        let Some(first) = size.first() else { continue };
        let (share, bytes) = (format!("{:.2} %", 100.0 * first.share), first.bytes);
        outln!("{share:>8}  {bytes:>14}  {:>15}  {:>15}  {:>15}", cell("store"), cell("lru"), cell("optimum"));
    }
}
