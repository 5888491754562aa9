//! Errors of this machine on the way to a next hop: no file descriptors, no memory, no free port. They say nothing about the
//! hop, so they are not charged to its health, and they have reasons of their own.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearside_http1::response::ResponseError;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::HopError;

/// Time between two log lines about errors of this machine; those in between are counted.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What this machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// File descriptors, of the process or of the system.
    Descriptors,
    /// Memory, a free local port, a permission, an address family.
    Other,
}

impl Lack {
    /// What an error of the system says that this machine lacks; `None` if it may be the other side's fault.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::NOMEM
            | Errno::NOBUFS
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::ACCESS
            | Errno::PERM
            | Errno::AFNOSUPPORT
            | Errno::PROTONOSUPPORT
            | Errno::NETDOWN => Some(Self::Other),
            _ => None,
        }
    }
}

impl HopError {
    /// Whether it is this machine that failed, and not the next hop.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Local { .. } => true,
            Self::Response { source: ResponseError::Io(error), .. } => Lack::of_io(error).is_some(),
            _ => false,
        }
    }
}

/// Logs an error of this machine, unless one was logged a moment ago: there may be thousands a second.
pub(super) fn tell(hop: &str, error: &HopError) {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    static UNTOLD: AtomicU64 = AtomicU64::new(0);
    let now = nearside_telemetry::clock::instant();
    let mut told = TOLD.lock();
    if told.is_some_and(|told| now.saturating_duration_since(told) < TELL_AGAIN) {
        UNTOLD.fetch_add(1, Ordering::Relaxed);
        return;
    }
    *told = Some(now);
    drop(told);
    let suppressed = UNTOLD.swap(0, Ordering::Relaxed);
    tracing::warn!(hop, %error, suppressed, "local error, not charged to the next hop");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn errors_of_this_machine_are_told_from_those_of_the_other_side() {
        for (errno, lack) in [
            (Errno::MFILE, Some(Lack::Descriptors)),
            (Errno::NFILE, Some(Lack::Descriptors)),
            (Errno::NOMEM, Some(Lack::Other)),
            (Errno::NOBUFS, Some(Lack::Other)),
            (Errno::ADDRNOTAVAIL, Some(Lack::Other)),
            (Errno::ACCESS, Some(Lack::Other)),
            (Errno::PERM, Some(Lack::Other)),
            (Errno::CONNREFUSED, None),
            (Errno::CONNRESET, None),
            (Errno::TIMEDOUT, None),
            (Errno::HOSTUNREACH, None),
        ] {
            assert_eq!(Lack::of_io(&system(errno)), lack, "{errno:?}");
            let error = HopError::Response { hop: "a".into(), source: ResponseError::Io(system(errno)) };
            assert_eq!(error.is_local(), lack.is_some(), "{errno:?}");
        }
        assert_eq!(Lack::of_io(&io::Error::other("no number")), None);
    }
}
