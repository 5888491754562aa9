//! TLS with next hops.
//!
//! By rustls itself, on connections that pingora then takes over: pingora's own TLS would bring a second crypto library,
//! ring, into the program.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authorities;

/// What next hops are told that is spoken (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// The client side of TLS: what it trusts, and the sessions that it can resume.
pub(super) struct ClientTls(TlsConnector);

impl ClientTls {
    /// Trusts the authorities of the system, or those that the environment names. Where they cannot be read any more,
    /// which was possible at the start of the node, no next hop is trusted.
    pub(super) fn new() -> Self {
        let roots = authorities::read().unwrap_or_else(|error| {
            tracing::error!(%error, "no https origin is trusted");
            RootCertStore::empty()
        });
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = match ClientConfig::builder_with_provider(provider).with_protocol_versions(versions) {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            // AWS-LC has suites for both versions; this is what the process has by default.
            Err(_no_suites) => ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Speaks TLS with the server at the other end, whose certificate must be for `host`, a name or an address.
    pub(super) async fn handshake(&self, host: &str, socket: TcpStream) -> io::Result<Encrypted> {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let name = ServerName::try_from(address.unwrap_or(host).to_owned()).map_err(io::Error::other)?;
        Ok(Encrypted(self.0.connect(name, socket).await?))
    }
}

/// A TLS connection in the form in which pingora takes over what it has not opened itself.
#[derive(Debug)]
pub(super) struct Encrypted(TlsStream<TcpStream>);

impl VirtualSocket for Encrypted {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.0.get_ref().0.set_nodelay(true),
            // No hop asks for others.
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn only_a_certificate_of_a_trusted_authority_for_the_host_is_accepted() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "::1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting = ClientTls::trusting(roots);
        for host in ["localhost", "[::1]"] {
            let mut stream =
                trusting.handshake(host, TcpStream::connect(address).await.unwrap()).await.expect("it is trusted");
            stream.set_socket_option(VirtualSockOpt::NoDelay).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "hello");
        }
        let strict = ClientTls::trusting(RootCertStore::empty());
        for (tls, host) in [(&trusting, "other.example"), (&strict, "localhost"), (&trusting, "no host")] {
            assert!(tls.handshake(host, TcpStream::connect(address).await.unwrap()).await.is_err(), "{host}");
        }
    }
}
