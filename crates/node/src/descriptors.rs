//! File descriptors: as many as the system allows, and enough of them kept free for next hops.

use nearside_config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for standard streams, logs, the admin listener and its clients, the resolver, and whatever libraries open.
const OWN: u64 = 48;
/// Descriptors of a serving thread besides its listening sockets: its runtime, and a connection that waits for a place.
const OWN_PER_THREAD: u64 = 8;
/// More descriptors than these are not kept for next hops, where the origins cannot need more.
const UPSTREAMS_MAX: u64 = 4096;

/// Raises the soft limit of open files to the hard one, and returns the limit then; `None` if there is none.
///
/// The soft limit is often 1024 for the sake of programs that call `select`; each client needs a descriptor.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "cannot raise the limit of open files");
            limit.current
        }
    }
}

/// Number of client connections that may be open at one time under a limit of open files: `limits.connections`, or what is
/// left once descriptors are set aside for the node itself and for its next hops. A warning tells if that is less.
pub(crate) fn connections(config: &Config, limit: Option<u64>) -> usize {
    let wanted = config.limits.connections;
    let allowed = limit.map_or(wanted, |limit| allowed(config, limit));
    if allowed < wanted {
        let limit = limit.unwrap_or_default();
        tracing::warn!(
            limits.connections = wanted,
            open_files = limit,
            "the limit of open files allows {allowed} client connections at a time, as others are kept for next hops; raise \
             it (LimitNOFILE= of systemd, --ulimit nofile= of docker, ulimit -Hn), or lower limits.connections"
        );
    }
    wanted.min(allowed)
}

fn allowed(config: &Config, limit: u64) -> usize {
    let threads = config.threads as u64;
    let sockets = (config.listen.len() + config.listen_tls.len()) as u64;
    let origins = config.sites.iter().map(|site| site.origins.len() as u64).sum::<u64>();
    allowed_beside(limit, threads, sockets, (2 * config.origins.concurrency as u64).saturating_mul(origins))
}

/// Client connections that `limit` allows beside what `threads` threads need, each with `sockets` listening sockets, and
/// the `wanted` connections to next hops.
fn allowed_beside(limit: u64, threads: u64, sockets: u64, wanted: u64) -> usize {
    let left = limit.saturating_sub(OWN + OWN_PER_THREAD * threads + sockets * threads);
    // At worst each client needs a connection to a next hop.
    let upstreams = wanted.max(UPSTREAMS_MAX);
    let clients = left - upstreams.min(left / 2);
    usize::try_from(clients).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_half_of_the_descriptors_or_what_next_hops_leave() {
        let own = OWN + 2 * OWN_PER_THREAD + 2;
        for (limit, wanted, expected) in [
            // One is let in whatever the limit.
            (0, 0, 1),
            (own, 0, 1),
            (own + 1000, 0, 500),
            (own + 2 * UPSTREAMS_MAX, 0, 4096),
            (own + 100_000, 0, 100_000 - 4096),
            // Many origins may need more, but never more than half.
            (own + 100_000, 10_000, 90_000),
            (own + 100_000, 80_000, 50_000),
        ] {
            assert_eq!(allowed_beside(limit, 2, 1, wanted), expected, "{limit} {wanted}");
        }
    }

    #[test]
    fn each_thread_needs_descriptors_of_its_own() {
        let allowed = |threads, sockets| allowed_beside(100_000, threads, sockets, 0);
        assert_eq!(allowed(1, 2) - allowed(2, 2), 10);
        assert_eq!(allowed(4, 1) - allowed(4, 2), 4);
    }
}
