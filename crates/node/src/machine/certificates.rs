//! Certificates and private keys of TLS listeners: whether each file is what it is said to be, they belong together, and are valid
//! today.

use std::path::{Path, PathBuf};

use nearside_config::files::found;
use nearside_config::{Flaw, TlsListener};
use nearside_front::tls;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a PEM file holds.
#[derive(Debug, Default)]
struct Content {
    certificates: Vec<Vec<u8>>,
    has_key: bool,
    /// A private key under a passphrase.
    has_encrypted_key: bool,
}

/// The flaws of the certificate and the key of listener `number`, at a moment in seconds since 1970.
pub(super) fn flaws(number: usize, listener: &TlsListener, beside: Option<&Path>, now: i64) -> Vec<Flaw> {
    let files = TlsListener {
        cert: found(&listener.cert, beside),
        key: found(&listener.key, beside),
        address: listener.address,
    };
    let (cert_at, key_at) = (format!("listen_tls[{number}].cert"), format!("listen_tls[{number}].key"));
    let (cert, key) = match (read(&files.cert), read(&files.key)) {
        (Ok(cert), Ok(key)) => (cert, key),
        (cert, key) => {
            let unreadable = |at: String, what: &str, path: &PathBuf, why: String| {
                let title = format!("the {what} {} cannot be read", path.display());
                Flaw::error(at, title, why, "name a PEM file that the user that the node runs as can read")
            };
            let cert = cert.err().map(|why| unreadable(cert_at, "certificate", &listener.cert, why));
            let key = key.err().map(|why| unreadable(key_at, "private key", &listener.key, why));
            return cert.into_iter().chain(key).collect();
        }
    };
    let (cert_name, key_name) = (listener.cert.display(), listener.key.display());
    if cert.certificates.is_empty() && cert.has_key && !key.has_key && !key.certificates.is_empty() {
        let title = format!(
            "certificate and private key are swapped: {cert_name} holds a private key, {key_name} a certificate"
        );
        return vec![Flaw::error(cert_at, title, "a private key", "exchange `cert` and `key` (--tls-cert, --tls-key)")];
    }
    let mut flaws = Vec::new();
    if cert.certificates.is_empty() {
        let label = if cert.has_key { "a private key, and no certificate" } else { "no certificate in it" };
        let help = "name the PEM file with the certificate and its chain (BEGIN CERTIFICATE)";
        flaws.push(Flaw::error(&cert_at, format!("there is no certificate in {cert_name}"), label, help));
    }
    if !key.has_key {
        let (label, help) = match &key {
            Content { has_encrypted_key: true, .. } => (
                "it is encrypted, and nobody could be asked for the passphrase",
                "decrypt it: openssl pkey -in FILE -out PLAIN",
            ),
            Content { certificates, .. } if !certificates.is_empty() => {
                ("a certificate, and no private key", "name the PEM file with the private key (BEGIN PRIVATE KEY)")
            }
            _ => ("no private key in it", "name the PEM file with the private key (BEGIN PRIVATE KEY)"),
        };
        flaws.push(Flaw::error(&key_at, format!("there is no private key in {key_name}"), label, help));
    }
    if !flaws.is_empty() {
        return flaws;
    }
    if let Err(error) = tls::settings(&files) {
        let title = match &error {
            tls::TlsError::Unusable { cause: rustls::Error::InconsistentKeys(_), .. } => {
                format!("the private key {key_name} does not belong to the certificate {cert_name}")
            }
            _ => format!("the certificate {cert_name} and the private key {key_name} cannot be used"),
        };
        let help = "name a certificate and the key that it was issued for; the server's own certificate stands first in its file";
        return vec![Flaw::error(key_at, title, error.cause(), help)];
    }
    cert.certificates
        .iter()
        .find_map(|certificate| validity(certificate, &cert_at, listener, now))
        .into_iter()
        .collect()
}

/// What is wrong with the time of a certificate, of the server or of its chain.
fn validity(certificate: &[u8], at: &str, listener: &TlsListener, now: i64) -> Option<Flaw> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
    let (state, when) = if until.timestamp() < now {
        ("has expired", until)
    } else if from.timestamp() > now {
        ("is not valid yet", from)
    } else {
        return None;
    };
    let subject = certificate.subject();
    let title = format!("the certificate {} {state} ({when}, {subject})", listener.cert.display());
    Some(Flaw::warning(at, title, state, "clients refuse it: renew the certificate, or set the clock of this machine"))
}

/// The sections of a PEM file; why there are none.
fn read(path: &Path) -> Result<Content, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut content = Content::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        match section.map_err(|error: pem::Error| error.to_string())? {
            (SectionKind::Certificate, der) => content.certificates.push(der),
            (SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _) => {
                content.has_key = true
            }
            _ => {}
        }
    }
    content.has_encrypted_key = String::from_utf8_lossy(&text).contains("ENCRYPTED");
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A moment in 2026.
    const NOW: i64 = 1_780_000_000;

    /// Writes a certificate that is valid in these years, and its key.
    fn make(folder: &Path, name: &str, years: (i32, i32)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.join(format!("{name}.crt")), cert.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        fs::write(folder.join(format!("{name}.both")), cert.pem() + &key.serialize_pem()).unwrap();
    }

    #[test]
    fn certificates_and_keys_are_what_they_are_said_to_be_and_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), "a", (2020, 2099));
        make(folder.path(), "b", (2020, 2099));
        make(folder.path(), "old", (2020, 2021));
        make(folder.path(), "early", (2098, 2099));
        fs::write(folder.path().join("text"), "no PEM").unwrap();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(folder.path().join("locked.key"), encrypted).unwrap();
        let of = |cert: &str, key: &str| {
            let address = "127.0.0.1:0".parse().unwrap();
            let listener = TlsListener { address, cert: folder.path().join(cert), key: folder.path().join(key) };
            flaws(0, &listener, None, NOW)
        };
        assert_eq!(of("a.crt", "a.key"), []);
        assert_eq!(of("a.both", "a.both"), [], "both in one file");
        for (cert, key, at, says) in [
            ("a.key", "a.crt", "cert", "swapped"),
            ("a.key", "a.key", "cert", "no certificate in"),
            ("a.crt", "a.crt", "key", "no private key in"),
            ("a.crt", "b.key", "key", "does not belong to"),
            ("text", "a.key", "cert", "no certificate in"),
            ("a.crt", "text", "key", "no private key in"),
            ("a.crt", "locked.key", "key", "encrypted"),
            ("none", "a.key", "cert", "cannot be read"),
            ("a.crt", "none", "key", "cannot be read"),
            (".", "a.key", "cert", "cannot be read"),
            ("old.crt", "old.key", "cert", "has expired"),
            ("early.crt", "early.key", "cert", "is not valid yet"),
        ] {
            let found = of(cert, key);
            let is_right = |flaw: &Flaw| flaw.at == format!("listen_tls[0].{at}") && flaw.to_string().contains(says);
            assert!(found.len() == 1 && found.iter().all(is_right), "{cert} {key}: {found:?}");
        }
        assert_eq!(of("none", "none").len(), 2);
    }

    #[test]
    fn relative_files_are_found_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), "relative", (2020, 2099));
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = TlsListener { address, cert: "relative.crt".into(), key: "relative.key".into() };
        assert_eq!(flaws(0, &listener, None, NOW).len(), 2);
        assert_eq!(flaws(0, &listener, Some(folder.path()), NOW), []);
    }
}
