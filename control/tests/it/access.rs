//! Tokens of operators and the secret of nodes: which paths each of them opens.

use nearside_config::{Scope, Secret, Token};

use crate::control_process::ControlProcess;

const SECRET: &str = "the-secret-of-an-operator";

fn token(name: &str, secret: &str, scope: Scope) -> Token {
    Token { name: name.to_owned(), secret: Secret::new(secret).unwrap(), scope, sites: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_tells_of_the_fleet_only_with_a_token_where_there_are_tokens() {
    let reader = || token("operator", SECRET, Scope::Read);
    let guarded = ControlProcess::start(|config| config.tokens = vec![reader()]).await;
    let open = ControlProcess::start(|config| {
        config.tokens = vec![reader()];
        config.console.open = true;
    })
    .await;
    let without = ControlProcess::start(|_| {}).await;
    let shown = format!("host: localhost\r\nauthorization: Bearer {SECRET}\r\n");
    // With a token the name does not matter: no page of others has one.
    let elsewhere = format!("host: control.example\r\nauthorization: Bearer {SECRET}\r\n");
    for path in ["/console/api/stream", "/v1/events"] {
        assert_eq!(guarded.get(path, "host: localhost\r\n").await, 401, "{path}");
        assert_eq!(guarded.get(path, "host: localhost\r\nauthorization: Bearer x\r\n").await, 401, "{path}");
        for lines in [&shown, &elsewhere] {
            assert_eq!(guarded.get(path, lines).await, 200, "{path} {lines}");
        }
        assert_eq!(without.get(path, "host: localhost\r\n").await, 200, "{path}");
    }
    assert_eq!(open.get("/console/api/stream", "host: localhost\r\n").await, 200);
    // The page itself is there, to ask for the token.
    assert_eq!(guarded.get("/console/", "host: localhost\r\n").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_operators_and_the_secret_of_nodes_open_different_paths() {
    let secret_of = |name: &str| format!("the-secret-of-{name}");
    let guarded = ControlProcess::start(|config| {
        let of = |name: &str, scope| token(name, &secret_of(name), scope);
        config.tokens = vec![of("reader", Scope::Read), of("operator", Scope::Purge)];
        config.nodes = Some(of("nodes", Scope::Admin));
    })
    .await;
    for (path, shown, status) in [
        ("/v1/purge", "nothing-nothing", 401),
        ("/v1/purge", "the-secret-of-reader", 403),
        ("/v1/purge", "the-secret-of-nodes", 401),
        ("/v1/fleet/follow", "the-secret-of-operator", 401),
        ("/v1/fleet/beat", "the-secret-of-reader", 401),
        // Nobody is there who could have anything.
        ("/v1/purge", "the-secret-of-operator", 503),
    ] {
        let lines = format!("host: 127.0.0.1\r\nauthorization: Bearer {shown}\r\n");
        assert_eq!(guarded.post(path, &lines, r#"{"all": true}"#).await, status, "{path} with {shown}");
    }
    // Nor does it take orders of nodes that show no secret.
    let order = r#"{"node": "edge", "order": {"all": true}}"#;
    assert_eq!(guarded.post("/v1/fleet/purge", "host: 127.0.0.1\r\n", order).await, 401);
}
