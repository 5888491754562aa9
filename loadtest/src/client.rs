//! A client: one connection at a time, HTTP/1.1 or HTTP/2, in the clear or over TLS; with HTTP/2 several clients share one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::LoadError;

/// Which certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those that this system believes.
    #[default]
    System,
    /// Those that this file in PEM vouches for.
    File(PathBuf),
    /// All, whoever shows them.
    Anybody,
}

/// How connections are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dial {
    pub(crate) http2: bool,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Dial {
    /// Reads what is trusted, if TLS is spoken.
    pub(crate) fn new(http2: bool, is_tls: bool, trust: &Trust) -> Result<Self, LoadError> {
        let tls = if is_tls { Some(Arc::new(tls(http2, trust)?)) } else { None };
        Ok(Self { http2, tls })
    }

    async fn connect(&self, url: &Uri) -> Result<Sender, String> {
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        let socket = TcpStream::connect(address(url).await.map_err(text)?).await.map_err(text)?;
        socket.set_nodelay(true).map_err(text)?;
        let Some(tls) = self.tls.as_ref().filter(|_| is_tls) else { return self.greet(socket).await };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(text)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await.map_err(text)?;
        if self.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2".to_owned());
        }
        self.greet(stream).await
    }

    async fn greet(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, String> {
        let stream = TokioIo::new(stream);
        if self.http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            // As browsers do: the server, not the window, is what is measured.
            builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
            let (sender, connection) = builder.handshake(stream).await.map_err(text)?;
            tokio::spawn(connection);
            return Ok(Sender::Two(sender));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(text)?;
        tokio::spawn(connection);
        Ok(Sender::One(sender))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

fn tls(http2: bool, trust: &Trust) -> Result<ClientConfig, LoadError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| LoadError::Trust(error.to_string()))?;
    let mut config = match trust {
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
        }
        Trust::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::File(path) => {
            let wrong = |why: String| LoadError::Trust(format!("{}: {why}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

/// Believes every certificate; signatures are checked, as a real client's work is to be done.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Where a URL's host is reached.
pub(crate) async fn address(url: &Uri) -> std::io::Result<SocketAddr> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    // Browsers take every name below localhost for this machine; so do we.
    let host = if host.ends_with(".localhost") { "127.0.0.1" } else { host };
    let port = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let mut addresses = lookup_host((host, url.port_u16().unwrap_or(port))).await?;
    addresses.next().ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// What requests go into.
enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::One(sender) => sender.ready().await,
            Self::Two(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<http::Response<Incoming>> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        }
    }
}

/// The connection of several clients that speak HTTP/2.
pub(crate) type Common = Arc<Mutex<Option<http2::SendRequest<Empty<Bytes>>>>>;

/// A client, and its connection while it has one. It asks always the same host.
#[derive(Default)]
pub(crate) struct Client {
    dial: Dial,
    sender: Option<Sender>,
    common: Common,
}

impl Client {
    /// A client that connects so, and with HTTP/2 shares a connection with the others of `common`.
    pub(crate) fn new(dial: Dial, common: Common) -> Self {
        Self { dial, sender: None, common }
    }

    /// Asks for a URL, and hands each piece of the body to `piece`.
    pub(crate) async fn get(&mut self, url: &Uri, piece: impl FnMut(&[u8])) -> Result<http::response::Parts, String> {
        self.get_with(url, &HeaderMap::new(), piece).await
    }

    /// The same with fields of the request.
    pub(crate) async fn get_with(
        &mut self,
        url: &Uri,
        fields: &HeaderMap,
        mut piece: impl FnMut(&[u8]),
    ) -> Result<http::response::Parts, String> {
        let mut sender = self.sender(url).await?;
        let request = self.request(url, fields)?;
        let (head, mut body) = sender.send(request).await.map_err(text)?.into_parts();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(text)?;
            frame.data_ref().into_iter().for_each(|data| piece(data));
        }
        if head.headers.get("connection").is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.sender = Some(sender);
        }
        Ok(head)
    }

    /// Its connection; what fails, or is given up, leaves none behind.
    async fn sender(&mut self, url: &Uri) -> Result<Sender, String> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let mut common = self.common.lock().await;
        if let Some(known) = common.as_mut().filter(|known| !known.is_closed()) {
            return Ok(Sender::Two(known.clone()));
        }
        let mut sender = self.dial.connect(url).await?;
        sender.ready().await.map_err(text)?;
        if let Sender::Two(sender) = &sender {
            *common = Some(sender.clone());
        }
        Ok(sender)
    }

    fn request(&self, url: &Uri, fields: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::new(Empty::new());
        request.headers_mut().clone_from(fields);
        if self.dial.http2 {
            *request.uri_mut() = url.clone();
            return Ok(request);
        }
        let host = url.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(text)?;
        *request.uri_mut() = Uri::from(url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        request.headers_mut().entry(HOST).or_insert(host);
        Ok(request)
    }
}

/// Fields of requests from their lines: `Name: value`.
///
/// # Errors
///
/// A line that is no field.
pub fn fields(lines: &[String]) -> Result<HeaderMap, LoadError> {
    let mut fields = HeaderMap::new();
    for line in lines {
        let wrong = || LoadError::Field(line.clone());
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_no_name| wrong())?;
        fields.append(name, HeaderValue::from_str(value.trim()).map_err(|_no_value| wrong())?);
    }
    Ok(fields)
}
