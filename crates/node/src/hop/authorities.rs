//! The certificate authorities that https origins and shields are checked against.

use std::io;

use pingora_core::tls::{RootCertStore, load_platform_certs_incl_env_into_store};

/// Reads the authorities as pingora's connector does, which panics where that fails.
///
/// # Errors
///
/// A file or a folder that cannot be read, and a certificate that is none.
pub(crate) fn check() -> io::Result<()> {
    load_platform_certs_incl_env_into_store(&mut RootCertStore::empty()).map_err(|error| {
        let help = "SSL_CERT_FILE and SSL_CERT_DIR name them in place of the system's";
        io::Error::other(format!("the certificate authorities for https origins cannot be read: {error}; {help}"))
    })
}
