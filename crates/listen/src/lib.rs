//! Listening sockets: bound, without IPv6 too, and closed without losing what is in their queue.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};

/// Listens on `address`, and where that means all addresses of a machine without IPv6, on those that it has.
///
/// # Errors
///
/// The system refuses the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => match ipv4_instead(address, &error) {
            Some(instead) => TcpListener::bind(instead).await,
            None => Err(error),
        },
    }
}

/// Whether the system refuses an IPv6 address because it has no IPv6 at all, or none on any interface.
fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let says_so = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let is_own = matches!(address, SocketAddr::V6(v6) if v6.ip().is_unspecified() || *v6.ip() == Ipv6Addr::LOCALHOST);
    address.is_ipv6()
        && (says_so(Errno::AFNOSUPPORT) || says_so(Errno::PROTONOSUPPORT) || is_own && says_so(Errno::ADDRNOTAVAIL))
}

/// Address to listen on in place of one that the system has refused with `error`: all of IPv4, if it was to be every address of a
/// machine that has no IPv6. Logs a warning.
#[must_use]
pub fn ipv4_instead(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let means_all = address.ip().is_unspecified() && lacks_ipv6(address, error);
    means_all.then(|| {
        tracing::warn!(%address, "this machine has no IPv6: listening on {instead} only");
        instead
    })
}

/// What to do about an address that cannot be listened on, to be put behind the error of the system; empty if that says it.
#[must_use]
pub fn advice(address: SocketAddr, error: &io::Error) -> &'static str {
    if lacks_ipv6(address, error) {
        return "; this machine has no IPv6: use an IPv4 address, such as 127.0.0.1 in place of [::1], or enable IPv6 \
                (sysctl net.ipv6.conf.all.disable_ipv6=0)";
    }
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "; it is not an address of this machine: name one that is, or \":PORT\" for all"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege: use a higher port, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// Closes a listening socket, and returns the connections that were in its queue, which the kernel bounds.
#[must_use]
pub fn close(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut queued = Vec::new();
    // Not through the runtime, which may not have heard yet of what has just been queued.
    let Ok(socket) = listener.into_std() else { return queued };
    while let Ok((stream, peer)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            queued.push((stream, peer));
        }
    }
    queued
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn refused(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn ipv4_stands_in_for_all_addresses_only() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, errno, lacks, instead) in [
            ("[::]:80", Errno::AFNOSUPPORT, true, Some("0.0.0.0:80")),
            ("[::]:80", Errno::ADDRNOTAVAIL, true, Some("0.0.0.0:80")),
            ("[::1]:80", Errno::AFNOSUPPORT, true, None),
            ("[::1]:80", Errno::ADDRNOTAVAIL, true, None),
            ("[2001:db8::1]:80", Errno::AFNOSUPPORT, true, None),
            ("[2001:db8::1]:80", Errno::ADDRNOTAVAIL, false, None),
            ("[::]:80", Errno::ADDRINUSE, false, None),
            ("127.0.0.1:80", Errno::AFNOSUPPORT, false, None),
        ] {
            let (found, error) = (address(text), refused(errno));
            assert_eq!(lacks_ipv6(found, &error), lacks, "{text} {errno:?}");
            assert_eq!(ipv4_instead(found, &error), instead.map(address), "{text}");
            assert_eq!(advice(found, &error).contains("no IPv6"), lacks, "{text} {errno:?}");
        }
    }
}
