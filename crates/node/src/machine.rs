//! What a configuration needs of the machine: certificates, a place for the access log, memory. `nearside check` and the start of a
//! node look at it alike.

mod certificates;
mod memory;

use std::path::Path;

use nearside_config::files::{found, open_secrets, open_to_others, why_not_appendable};
use nearside_config::{ByteSize, Config, Flaw, LogFormat, LogSink};
use nearside_telemetry::clock::Clock;

/// The flaws of a configuration on this machine. Relative paths are also looked for in the folder `beside`, where that is given.
#[must_use]
pub fn flaws(config: &Config, beside: Option<&Path>) -> Vec<Flaw> {
    let now = i64::try_from(Clock::System.now().as_millis() / 1000).unwrap_or(i64::MAX);
    let listeners = config.listen_tls.iter().enumerate();
    let mut flaws: Vec<_> =
        listeners.flat_map(|(number, listener)| certificates::flaws(number, listener, beside, now)).collect();
    flaws.extend(access_log(config, beside));
    flaws.extend(open_secrets(&config.secret_files, beside));
    for (number, listener) in config.listen_tls.iter().enumerate() {
        flaws.extend(open_to_others(&format!("listen_tls[{number}].key"), "the private key", &listener.key, beside));
    }
    flaws.extend(memory(config.cache.memory_bytes, memory::available()));
    flaws
}

fn access_log(config: &Config, beside: Option<&Path>) -> Option<Flaw> {
    let LogSink::File(path) = &config.access_log.sink else { return None };
    if config.access_log.format == LogFormat::Off {
        return None;
    }
    let why = why_not_appendable(&found(path, beside))?;
    let title = format!("the access log {} cannot be written", path.display());
    Some(Flaw::error(
        "access_log.file",
        title,
        why,
        "create the directory, and let the user that the node runs as write there",
    ))
}

/// A cache that is larger than the memory: the system would end the process when it is full.
fn memory(cache: u64, available: Option<memory::Available>) -> Option<Flaw> {
    let available = available.filter(|available| available.bytes < cache)?;
    let (cache, has) = (ByteSize(cache), mebibytes(available.bytes));
    Some(Flaw::warning(
        "cache.memory",
        format!("the cache may take {cache} of memory, and {} has {has}", available.of),
        "more memory than there is",
        format!("set `memory` in [cache] (--memory) well below {has}: connections and requests need some, too"),
    ))
}

fn mebibytes(bytes: u64) -> String {
    ByteSize(bytes >> 20 << 20).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_larger_than_the_memory_is_a_flaw() {
        let has = |bytes| Some(memory::Available { bytes, of: "this machine" });
        assert_eq!(memory(1 << 30, has(1 << 30)), None);
        assert_eq!(memory(1 << 40, None), None);
        let flaw = memory(1 << 40, has((4 << 30) + 5)).unwrap();
        assert!(flaw.title.contains("1TiB") && flaw.title.contains("this machine has 4GiB"), "{}", flaw.title);
    }
}
