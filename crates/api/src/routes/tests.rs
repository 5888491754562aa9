use std::io::Write;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use nearside_config::{Secret, Token};
use parking_lot::Mutex;
use tower::ServiceExt;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Counts what it is told to purge. It has one site.
struct Counter {
    access: Access,
    book: Book,
    events: Events,
    purged: Mutex<Vec<Order>>,
}

impl Backend for Counter {
    fn access(&self) -> &Access {
        &self.access
    }

    fn book(&self) -> &Book {
        &self.book
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn sites_of(&self, order: &Order) -> Result<Vec<String>, Problem> {
        match order.site.as_deref() {
            None | Some("www") => Ok(vec!["www".to_owned()]),
            Some(_) => Err(Problem::unprocessable("unknown-site", "there is no such site")),
        }
    }

    async fn purge(&self, order: Order, _: Reach) -> Result<Receipt, Problem> {
        self.purged.lock().push(order);
        Ok(Receipt::of("1".to_owned(), None, false, Vec::new()))
    }

    fn nodes(&self) -> Vec<NodeState> {
        Vec::new()
    }

    fn about(&self) -> (&'static str, String) {
        ("edge", String::new())
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn objects(&self, _: &str) -> Result<Vec<Object>, Problem> {
        Ok(Vec::new())
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_change_and_each_that_is_refused_is_one_line_without_secrets() {
    let token = |name: &str, scope, sites: &[&str]| Token {
        name: name.to_owned(),
        secret: Secret::new(&format!("the-secret-of-{name}")).unwrap(),
        scope,
        sites: sites.iter().map(|site| (*site).to_owned()).collect(),
    };
    let tokens = vec![token("writer", Scope::Purge, &["www"]), token("stranger", Scope::Purge, &["shop"])];
    let counter = Arc::new(Counter {
        access: Access::closed(tokens),
        book: Book::default(),
        events: Events::new(String::new()),
        purged: Mutex::default(),
    });
    let lines = Lines::default();
    let logged = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(lines).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let big = format!("{{\"tags\":[\"{}\"]}}", "x".repeat(BODY_BYTES_MAX));
    let table = [
        ("writer", r#"{"tags":["a secret tag"]}"#, 200, "outcome=\"done\" site=\"*\" mode=\"hard\" targets=1"),
        ("", r#"{"all":true}"#, 401, "outcome=\"token-missing\""),
        ("nobody", r#"{"all":true}"#, 401, "outcome=\"token-unknown\""),
        ("stranger", r#"{"all":true}"#, 403, "outcome=\"site\""),
        ("writer", r#"{"all":true,"site":"other"}"#, 422, "outcome=\"unknown-site\""),
        ("writer", r#"{"all":tru"#, 400, "outcome=\"malformed\""),
        ("writer", &big, 413, "outcome=\"too-large\""),
    ];
    for (name, body, status, says) in table {
        let mut request = HttpRequest::post("/v1/purge").header("content-type", "application/json");
        if !name.is_empty() {
            request = request.header("authorization", format!("Bearer the-secret-of-{name}"));
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>("192.0.2.7:1".parse().unwrap()));
        logged.0.lock().clear();
        let response = routes(Arc::clone(&counter)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{says}");
        let text = String::from_utf8(logged.0.lock().clone()).unwrap();
        let audit: Vec<_> = text.lines().filter(|line| line.contains(" audit: ")).collect();
        assert!(audit.len() == 1 && audit[0].contains(says) && audit[0].contains("client=192.0.2.7"), "{text}");
        assert!(!text.contains("the-secret-of") && !text.contains("a secret tag"), "{text}");
    }
    assert_eq!(counter.purged.lock().len(), 1, "the one that was allowed");
}
