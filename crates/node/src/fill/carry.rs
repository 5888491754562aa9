//! Carrying a body from the next hop to those who read it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use nearside_store::entry::fields_weight;
use nearside_store::{BodyWriter, Head};

use super::Plan;
use super::fetched::Fetched;
use super::supply::Supply;
use crate::hop::{Asked, HopError, logged_path};
use crate::reason::Reason;
use crate::request::Engine;

/// A body that is not stored, once its head is there.
pub(super) struct Passing {
    pub(super) asked: Box<Asked>,
    pub(super) head: Arc<Head>,
    pub(super) writer: BodyWriter,
}

/// Carries a body that nobody could ask for again, and that is not stored. `target` is what it was asked for by.
pub(crate) async fn stream(engine: Arc<Engine>, asked: Box<Asked>, head: Arc<Head>, writer: BodyWriter, target: Bytes) {
    pass(&engine, Passing { asked, head, writer }, None, &target).await;
}

/// Carries a body that is not stored, at the pace of its reader.
pub(super) async fn pass(engine: &Engine, passing: Passing, plan: Option<&Plan>, target: &[u8]) {
    let Passing { asked, head, mut writer } = passing;
    let mut supply = Supply::new(engine, asked, &head, plan);
    // What has no body is whole already, also when its reader is gone: its connection can be used again.
    while !supply.is_whole() {
        if !writer.room().await {
            return;
        }
        match supply.piece().await {
            Ok(Some(bytes)) => {
                if !hold(engine, &mut writer, bytes.len() as u64).await {
                    return;
                }
                // Whole with its last byte, before its reader can have left with it.
                writer.append(compact(bytes));
            }
            Ok(None) => break,
            Err(error) => return cut(&error, supply.hop(), target),
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
    let mut room = Room::of(fetched.length);
    let mut supply = Supply::new(engine, asked, &fetched.head, Some(plan));
    loop {
        if !writer.room().await {
            return false;
        }
        match supply.piece().await {
            Ok(Some(bytes)) => {
                if kept && fetched.length.is_none() && !fits(engine, &mut writer, bytes.len() as u64) {
                    kept = false;
                    engine.store.remember_uncacheable(&plan.key.bytes, Reason::TooLarge.token(), engine.clock.now());
                    writer.pass(engine.config.limits.window_bytes);
                }
                if !kept && !hold(engine, &mut writer, bytes.len() as u64).await {
                    return false;
                }
                if kept {
                    room.copy(&bytes, |piece| writer.append(piece));
                } else {
                    writer.append(compact(bytes));
                }
                if supply.is_whole() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                cut(&error, supply.hop(), &plan.forward.target);
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

/// Where the bytes of a kept body are copied to: a slice would keep the whole receive buffer alive. Pieces of a body of
/// known length share allocations of a size that the allocator need not round.
struct Room {
    left: Option<u64>,
    free: BytesMut,
}

/// The largest allocation for a kept body.
const ROOM_BYTES: u64 = 256 << 10;

impl Room {
    fn of(length: Option<u64>) -> Self {
        Self { left: length, free: BytesMut::new() }
    }

    /// Calls `take` with a copy of `bytes`, in one piece or two.
    fn copy(&mut self, mut bytes: &[u8], mut take: impl FnMut(Bytes)) {
        let Some(left) = &mut self.left else { return take(Bytes::copy_from_slice(bytes)) };
        while !bytes.is_empty() {
            if self.free.capacity() == 0 {
                if bytes.len() as u64 >= *left {
                    // The last piece, or the only one.
                    return take(Bytes::copy_from_slice(bytes));
                }
                self.free = BytesMut::with_capacity(usize::try_from((*left).min(ROOM_BYTES)).unwrap_or(bytes.len()));
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(self.free.capacity()));
            self.free.extend_from_slice(piece);
            take(self.free.split().freeze());
            *left = left.saturating_sub(piece.len() as u64);
            bytes = rest;
        }
    }
}

/// Pieces that are smaller are copied when their body passes: a slice keeps the receive buffer alive that it came in, and
/// what is charged would be a small part of what is held.
const SLICE_BYTES_MIN: usize = 4096;

fn compact(bytes: Bytes) -> Bytes {
    if bytes.len() < SLICE_BYTES_MIN { Bytes::copy_from_slice(&bytes) } else { bytes }
}

fn fits(engine: &Engine, writer: &mut BodyWriter, more: u64) -> bool {
    if writer.written() + more > engine.store.limits().object_bytes_max {
        return false;
    }
    charge(engine, writer, more)
}

fn charge(engine: &Engine, writer: &mut BodyWriter, more: u64) -> bool {
    writer.charge(more) || {
        engine.store.make_room(more, engine.clock.now());
        writer.charge(more)
    }
}

/// Makes room for a piece of a body that passes; if there is none to be had, it goes on a piece at a time. False when nobody
/// reads it any more.
async fn hold(engine: &Engine, writer: &mut BodyWriter, bytes: u64) -> bool {
    charge(engine, writer, bytes) || writer.emptied().await
}

/// The body ends before it is whole; its writer is dropped with this.
fn cut(error: &HopError, upstream: &str, target: &[u8]) {
    let (reason, path) = (error.reason().token(), logged_path(target));
    tracing::warn!(upstream, reason, path, %error, "response cut short");
}
