//! Carrying a body from the next hop to those who read it.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use nearside_store::entry::fields_weight;
use nearside_store::{BodyWriter, Head};

use super::Plan;
use super::fetched::Fetched;
use super::supply::Supply;
use crate::hop::{Asked, HopError};
use crate::request::Engine;

/// A body that is not stored, once its head is there.
pub(super) struct Passing {
    pub(super) asked: Box<Asked>,
    pub(super) head: Arc<Head>,
    pub(super) writer: BodyWriter,
}

/// Carries a body that nobody could ask for again, and that is not stored.
pub(crate) async fn stream(engine: Arc<Engine>, asked: Box<Asked>, head: Arc<Head>, writer: BodyWriter) {
    pass(&engine, Passing { asked, head, writer }, None).await;
}

/// Carries a body that is not stored, at the pace of its reader.
pub(super) async fn pass(engine: &Engine, passing: Passing, plan: Option<&Plan>) {
    let Passing { asked, head, mut writer } = passing;
    let mut supply = Supply::new(engine, asked, &head, plan);
    // What has no body is whole already, also when its reader is gone: its connection can be used again.
    while !supply.is_whole() {
        if !writer.room().await {
            return;
        }
        match supply.piece().await {
            Ok(Some(bytes)) => {
                // Whole with its last byte, before its reader can have left with it.
                writer.append(bytes);
            }
            Ok(None) => break,
            Err(error) => return cut(&error),
        }
    }
    let mut asked = supply.into_asked();
    writer.finish(asked.take_trailers());
    engine.hops.release(asked).await;
}

/// Carries a body that is stored; false if it ended badly, or became too large on the way.
pub(super) async fn keep(
    engine: &Engine,
    asked: Box<Asked>,
    mut writer: BodyWriter,
    plan: &Plan,
    fetched: &Fetched,
) -> bool {
    let mut kept = true;
    let mut supply = Supply::new(engine, asked, &fetched.head, Some(plan));
    loop {
        if !writer.room().await {
            return false;
        }
        match supply.piece().await {
            Ok(Some(bytes)) => {
                if kept && fetched.length.is_none() && !fits(engine, &mut writer, bytes.len() as u64) {
                    kept = false;
                    engine.store.remember_uncacheable(&plan.key.bytes, engine.clock.now());
                    writer.pass(engine.config.limits.window_bytes);
                }
                // What stays is copied: a slice would keep the whole receive buffer alive.
                writer.append(if kept { Bytes::copy_from_slice(&bytes) } else { bytes });
                if supply.is_whole() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                cut(&error);
                return false;
            }
        }
    }
    let mut asked = supply.into_asked();
    let trailers = asked.take_trailers();
    let fits = !kept || trailers.is_empty() || fits(engine, &mut writer, fields_weight(&trailers));
    writer.finish(if fits { trailers } else { HeaderMap::new() });
    engine.hops.release(asked).await;
    kept
}

fn fits(engine: &Engine, writer: &mut BodyWriter, more: u64) -> bool {
    if writer.written() + more > engine.store.limits().object_bytes_max {
        return false;
    }
    writer.charge(more) || {
        engine.store.make_room(more, engine.clock.now());
        writer.charge(more)
    }
}

/// The body ends before it is whole; its writer is dropped with this.
fn cut(error: &HopError) {
    tracing::warn!(%error, "an answer was cut short");
}
