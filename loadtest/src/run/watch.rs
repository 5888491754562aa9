//! What is looked at while a run goes on: the ledger of its origin, and how far it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Uri;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{SECOND, Shared};
use crate::client::Client;
use crate::report::OriginReport;

/// Reads the ledger at the beginning, at the end of each moment, and at the end.
pub(super) fn watch_origin(shared: &Arc<Shared>, ended: oneshot::Receiver<()>) -> JoinHandle<Vec<OriginReport>> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut pages = Vec::new();
        let Some(origin) = &shared.load.origin else { return pages };
        let mut client = Client::default();
        sleep_until(shared.start).await;
        pages.extend(ledger(&mut client, origin).await);
        for moment in 1..shared.moments() {
            sleep_until(shared.start + shared.every() * u32::try_from(moment).unwrap_or(0)).await;
            // One that does not answer stands where it stood.
            let page = ledger(&mut client, origin).await.or_else(|| pages.last().copied());
            pages.extend(page);
        }
        // A run that was given up has ended too.
        let _ = ended.await;
        pages.extend(ledger(&mut client, origin).await.or_else(|| pages.last().copied()));
        pages
    })
}

async fn ledger(client: &mut Client, origin: &Uri) -> Option<OriginReport> {
    let url = format!("{}/_ledger/total", origin.to_string().trim_end_matches('/')).parse().ok()?;
    let mut body = Vec::new();
    let head = timeout(SECOND, client.get(&url, |data| body.extend_from_slice(data))).await.ok()?.ok()?;
    head.status.is_success().then(|| serde_json::from_slice(&body).ok()).flatten()
}

/// Shows how far it is on standard error, if wanted; for ever.
pub(super) fn show_progress(shared: &Arc<Shared>, wanted: bool) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if !wanted {
            return;
        }
        let style = ProgressStyle::with_template("{elapsed} {wide_bar} {percent} %  {msg}");
        let seconds = (shared.load.warm_up + shared.load.duration).as_millis();
        let bar = ProgressBar::new(u64::try_from(seconds).unwrap_or(u64::MAX));
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut before = 0;
        loop {
            sleep(SECOND).await;
            let answered = shared.answered.load(Ordering::Relaxed);
            let warms_up = if Instant::now() < shared.start { "warming up, " } else { "" };
            bar.set_message(format!("{warms_up}{} requests, {}/s", answered, answered - before));
            bar.set_position(u64::try_from(shared.begin.elapsed().as_millis()).unwrap_or(u64::MAX));
            before = answered;
        }
    })
}
