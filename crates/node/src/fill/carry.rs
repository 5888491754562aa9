//! Carrying a body from the next hop to those who read it.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use nearside_store::BodyWriter;
use nearside_store::entry::fields_weight;

use super::Plan;
use super::fetched::Fetched;
use crate::hop::{Asked, HopError};
use crate::request::Engine;

/// Carries a body that is not stored, at the pace of its reader.
pub(crate) async fn stream(engine: Arc<Engine>, mut asked: Box<Asked>, mut writer: BodyWriter) {
    // What has no body is whole already, also when its reader is gone: its connection can be used again.
    while !asked.is_whole() {
        if !writer.room().await {
            return;
        }
        match engine.hops.body(&mut asked).await {
            Ok(Some(bytes)) => {
                // Whole with its last byte, before its reader can have left with it.
                writer.append(bytes);
            }
            Ok(None) => break,
            Err(error) => return cut(&error),
        }
    }
    writer.finish(asked.take_trailers());
    engine.hops.release(asked).await;
}

/// Carries a body that is stored; false if it ended badly, or became too large on the way.
pub(super) async fn keep(
    engine: &Engine,
    mut asked: Box<Asked>,
    mut writer: BodyWriter,
    plan: &Plan,
    fetched: &Fetched,
) -> bool {
    let mut kept = true;
    loop {
        if !writer.room().await {
            return false;
        }
        match engine.hops.body(&mut asked).await {
            Ok(Some(bytes)) => {
                if kept && fetched.length.is_none() && !fits(engine, &mut writer, bytes.len() as u64) {
                    kept = false;
                    engine.store.remember_uncacheable(&plan.key.bytes, engine.clock.now());
                    writer.pass(engine.config.limits.window_bytes);
                }
                // What stays is copied: a slice would keep the whole receive buffer alive.
                writer.append(if kept { Bytes::copy_from_slice(&bytes) } else { bytes });
                if asked.is_whole() {
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
