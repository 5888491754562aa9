//! TLS for clients: rustls on AWS-LC, TLS 1.2 and 1.3, HTTP/2 by ALPN.
//!
//! An acceptor of our own in place of pingora's settings, which give no access to session resumption. Sessions are
//! resumed by tickets, one new one a connection, under keys that all threads share and that rustls changes every six hours; only TLS 1.2 clients
//! without tickets need the table of sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearside_config::TlsListener;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::{CipherSuite, ServerConfig};

/// Sessions that can be resumed without a ticket (TLS 1.2).
const SESSIONS: usize = 20_480;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds no PEM of the kind.
    #[error("{what} {path} cannot be read: {cause}", path = path.display())]
    Unreadable {
        /// "certificate" or "private key".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Both can be read, but do not belong together, or are of a kind that is not supported.
    #[error("certificate {cert} and private key {key} cannot be used: {cause}", cert = cert.display(), key = key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        cause: rustls::Error,
    },
}

impl TlsError {
    /// The cause alone, without the files.
    pub fn cause(&self) -> String {
        match self {
            Self::Unreadable { cause, .. } => cause.clone(),
            Self::Unusable { cause, .. } => cause.to_string(),
        }
    }
}

/// The TLS settings of a listener.
///
/// # Errors
///
/// The certificate or the key cannot be read, or they do not belong together.
pub fn settings(listener: &TlsListener) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |cause| TlsError::Unusable { cert: listener.cert.clone(), key: listener.key.clone(), cause };
    let chain = certificates(&listener.cert)?;
    let key = PrivateKeyDer::from_pem_file(&listener.key).map_err(|error| TlsError::Unreadable {
        what: "private key",
        path: listener.key.clone(),
        cause: error.to_string(),
    })?;
    let mut settings = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    settings.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    settings.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
    settings.ignore_client_order = true;
    settings.send_tls13_tickets = 1;
    Ok(Arc::new(settings))
}

/// When the certificate of a listener expires, in seconds since 1970; `None` where it cannot be told.
pub fn expiry(listener: &TlsListener) -> Option<i64> {
    let chain = certificates(&listener.cert).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// AWS-LC with AES-128 before AES-256: as strong as the rest of a handshake is, and cheaper by the difference between
/// SHA-256, which processors have instructions for, and SHA-384.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
        _ => 2,
    });
    provider
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { what: "certificate", path: path.to_owned(), cause };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unreadable(error.to_string()))?;
    if chain.is_empty() { Err(unreadable("there is no certificate in it".to_owned())) } else { Ok(chain) }
}
