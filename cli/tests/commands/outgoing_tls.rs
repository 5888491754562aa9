//! A control process that speaks TLS to others: webhooks, and NATS with credentials. No node runs in the same process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::{Value, json};

use crate::loadtest::{Running, nearside, ports, start, start_command};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A certificate for `localhost`, in `cert.pem` and `key.pem` of a folder, and as a server presents it.
fn certificate(folder: &Path) -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap()
}

/// Takes requests over TLS, and answers each with 204; what each has said.
fn receiver(config: ServerConfig) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, told) = channel();
    std::thread::spawn(move || {
        let config = Arc::new(config);
        while let Ok((mut socket, _)) = listener.accept() {
            let (config, sender) = (Arc::clone(&config), sender.clone());
            std::thread::spawn(move || {
                let mut tls = ServerConnection::new(config).unwrap();
                let mut stream = Stream::new(&mut tls, &mut socket);
                let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    said.extend_from_slice(&buffer[..length]);
                    if said.ends_with(b"}") {
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                        let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
                        said.clear();
                    }
                }
            });
        }
    });
    (port, told)
}

/// Starts a control process with a configuration and with certificate authorities of its own, and waits until it answers.
fn control(file: &Path, port: u16, authorities: &Path) -> Running {
    let mut command = nearside(&["control", "--config", file.to_str().unwrap()]);
    command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
    start_command(command, port)
}

#[test]
fn a_webhook_is_told_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (hook, told) = receiver(certificate(folder.path()));
    let [port, origin, clear, admin] = ports();
    let config = format!(
        "role = \"control\"\nlisten = \"127.0.0.1:{port}\"\n[purge_log]\nfile = {:?}\n\
         [[webhook]]\nurl = \"https://localhost:{hook}/told\"\nsecret = {{ file = {:?} }}\n",
        folder.path().join("purges.log"),
        folder.path().join("secret"),
    );
    std::fs::write(folder.path().join("secret"), "a-secret-for-this-webhook").unwrap();
    let file = folder.path().join("control.toml");
    std::fs::write(&file, config).unwrap();
    let _control = control(&file, port, &folder.path().join("cert.pem"));
    let at = |port: u16| format!("127.0.0.1:{port}");
    let (listen, admin_at, follows, upstream) =
        (at(clear), at(admin), format!("http://{}", at(port)), format!("http://{}", at(origin)));
    let edge = ["edge", "--listen", &listen, "--admin", &admin_at, "--origin", &upstream, "--control", &follows];
    let _edge = start(&[&edge[..], &["--memory", "16MiB"]].concat(), admin);
    let said = told.recv_timeout(PATIENCE).expect("the webhook is not told that a node has come");
    assert!(said.starts_with("POST /told HTTP/1.1\r\n") && said.contains("webhook-signature: v1,"), "{said}");
    assert!(said.contains("node-up"), "{said}");
}

/// A token of NATS: what an issuer says of a subject.
fn token(issuer: &KeyPair, subject: &KeyPair, says: &Value) -> String {
    let claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test", "nats": says
    });
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encoded(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encoded(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A NATS server with JetStream that speaks TLS and asks for credentials, which are in `user.creds` of the folder.
fn nats(folder: &Path, port: u16) -> Running {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let of_account = |limits: &Value| json!({ "type": "account", "version": 2, "limits": limits });
    let no_streams = json!({ "subs": -1, "data": -1, "payload": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?} }}\ntls {{ cert_file: {:?}, key_file: {:?} }}\n\
         operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: \"{}\", {}: \"{}\" }}\n",
        folder.join("store"),
        folder.join("cert.pem"),
        folder.join("key.pem"),
        token(&operator, &operator, &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        account.public_key(),
        token(&operator, &account, &of_account(&limits)),
        system.public_key(),
        token(&operator, &system, &of_account(&no_streams)),
    );
    let says = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&account, &user, &says),
        user.seed().unwrap(),
    );
    std::fs::write(folder.join("user.creds"), credentials).unwrap();
    std::fs::write(folder.join("nats.conf"), config).unwrap();
    let server = Command::new("nats-server")
        .arg("-c")
        .arg(folder.join("nats.conf"))
        .arg("-l")
        .arg(folder.join("nats.log"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is needed for this test: Debian's package of that name, which script/test installs");
    let mut server = Running(server);
    for _ in 0..1200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return server;
        }
        assert!(server.0.try_wait().unwrap().is_none(), "{}", log(folder));
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nats-server does not listen: {}", log(folder));
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("nats.log")).unwrap_or_default()
}

#[test]
fn a_purge_log_is_kept_on_nats_over_tls_with_credentials() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let [port, nats_port] = ports();
    let _nats = nats(folder.path(), nats_port);
    let config = format!(
        "role = \"control\"\nlisten = \"127.0.0.1:{port}\"\n[purge_log]\nkind = \"nats\"\n\
         servers = [\"tls://localhost:{nats_port}\"]\nca = {:?}\ncredentials = {:?}\n",
        folder.path().join("cert.pem"),
        folder.path().join("user.creds"),
    );
    let file = folder.path().join("control.toml");
    std::fs::write(&file, config).unwrap();
    // Ready once the whole log has been read.
    let mut control = control(&file, port, &folder.path().join("cert.pem"));
    assert!(control.0.try_wait().unwrap().is_none());
}
