//! The connection to NATS, which is made anew whenever it is lost.

use std::sync::Arc;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use nearside_config::{Nats, NatsLogin};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{ANSWER_MAX, CONNECT_MAX, PAUSE};
use crate::known::instant;
use crate::log::LogError;

/// Connects; whatever comes later, the connection is made anew.
pub(super) async fn connect(nats: &Nats) -> Result<(Client, watch::Receiver<()>), LogError> {
    let refused = |what: String| LogError::Nats(what);
    let servers: Result<Vec<async_nats::ServerAddr>, _> =
        nats.servers.iter().map(|server| server.to_string().parse()).collect();
    let servers = servers.map_err(|error| refused(error.to_string()))?;
    let deadline = instant() + CONNECT_MAX;
    loop {
        let (sender, connected) = watch::channel(());
        let sender = Arc::new(sender);
        let mut options = ConnectOptions::new()
            .name("nearside control")
            .no_echo()
            // Also of servers that are learned from others: what these say of TLS is not what was asked for.
            .require_tls(nats.servers.iter().any(|server| server.tls))
            .connection_timeout(ANSWER_MAX)
            .ping_interval(ANSWER_MAX)
            .reconnect_delay_callback(|attempts| PAUSE * u32::try_from(attempts.min(5)).unwrap_or(5))
            .event_callback(move |event| {
                let sender = Arc::clone(&sender);
                async move {
                    match event {
                        Event::Connected => sender.send_replace(()),
                        other => tracing::warn!(event = %other, "NATS"),
                    };
                }
            });
        options = match &nats.login {
            NatsLogin::None => options,
            NatsLogin::User(user, password) => options.user_and_password(user.clone(), password.reveal().to_owned()),
            NatsLogin::Token(token) => options.token(token.reveal().to_owned()),
            NatsLogin::Credentials(file) => {
                let unreadable = |error| refused(format!("{}: {error}", file.display()));
                options.credentials_file(file).await.map_err(unreadable)?
            }
        };
        if let Some(ca) = &nats.ca {
            options = options.add_root_certificates(ca.clone());
        }
        match options.connect(&servers[..]).await {
            Ok(client) => return Ok((client, connected)),
            Err(error) if instant() >= deadline || !may_pass(error.kind()) => {
                let names: Vec<_> = nats.servers.iter().map(ToString::to_string).collect();
                return Err(refused(format!("cannot connect to {}: {error}", names.join(", "))));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Whether trying again would help.
fn may_pass(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut)
}
