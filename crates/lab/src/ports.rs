//! Free ports.

use anyhow::Context;

/// Finds `N` different ports of the loopback that are free now.
///
/// # Errors
///
/// No port can be bound.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // Bound together, so that they differ.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
