//! The certificate authorities that https origins and shields are checked against.

use std::io;

use rustls::RootCertStore;
use rustls_native_certs::load_native_certs;

/// Reads the authorities of the system, or those that the environment names.
///
/// # Errors
///
/// A file or a folder that cannot be read, and a certificate that is none.
pub fn read() -> io::Result<RootCertStore> {
    let found = load_native_certs();
    if let Some(error) = found.errors.first() {
        return Err(unreadable(error));
    }
    let mut roots = RootCertStore::empty();
    for certificate in found.certs {
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    Ok(roots)
}

fn unreadable(error: &dyn std::error::Error) -> io::Error {
    let help = "SSL_CERT_FILE and SSL_CERT_DIR name them in place of the system's";
    io::Error::other(format!("the certificate authorities for https origins cannot be read: {error}; {help}"))
}
