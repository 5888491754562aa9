//! Carrying a body from the next hop to those who read it.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use nearside_store::entry::fields_weight;
use nearside_store::{BodyWriter, Head};
use nearside_telemetry::clock::instant;
use nearside_telemetry::reason::Reason;
use nearside_upstream::{Asked, Hold, HopError, LOOK_EVERY, Pace, logged_path};
use tokio::time::timeout;

use super::fetched::Fetched;
use super::supply::Supply;
use super::{Fill, Plan};
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
    let mut pace = Paces::of(supply.length());
    // What has no body is whole already, also when its reader is gone: its connection can be used again.
    while !supply.is_whole() {
        if !pace.taken(&supply.hold(), &writer, writer.room()).await {
            return;
        }
        match pace.supplied(&mut supply, &writer).await {
            Ok(Some(bytes)) => {
                if !hold(engine, &supply, &mut pace, &mut writer, bytes.len() as u64).await {
                    return;
                }
                // Whole with its last byte, before its reader can have left with it.
                writer.append(compact(bytes));
            }
            Ok(None) => break,
            Err(End::Cut(error)) => return cut(&error, supply.hop(), target),
            Err(End::Unwanted) => return,
        }
    }
    let mut asked = supply.into_asked();
    writer.finish(asked.take_trailers());
    engine.hops.release(asked).await;
}

/// Size up to which a body is fetched to its end although nobody reads it any more.
const FINISHED_BYTES: u64 = 1 << 20;

/// Whether a body that nobody reads is fetched to its end, of which `received` bytes are here: it is small, or most of it has
/// come. Else a client that asks and leaves could make the origin send anything.
fn is_worth_finishing(length: Option<u64>, received: u64) -> bool {
    match length {
        Some(length) => length <= FINISHED_BYTES || length.saturating_sub(received) < length / 2,
        None => received <= FINISHED_BYTES,
    }
}

/// Waits until nobody reads or awaits the body of a fill, and cuts it. Never returns for a fill that is wanted without readers:
/// a refresh, or a prefetch.
async fn unread(engine: &Engine, fill: &Arc<Fill>, writer: &BodyWriter) {
    loop {
        writer.unread().await;
        if !engine.fills.abandon(fill) {
            fill.unwanted().await;
        } else if writer.cut_if_unread() {
            return;
        }
    }
}

/// Carries a body that is stored; false if it ended badly, became too large on the way, or nobody reads it any more.
pub(super) async fn keep(
    engine: &Engine,
    fill: &Arc<Fill>,
    asked: Box<Asked>,
    mut writer: BodyWriter,
    plan: &Plan,
    fetched: &Fetched,
) -> bool {
    let mut kept = true;
    let mut room = Room::of(fetched.length);
    let mut supply = Supply::new(engine, asked, &fetched.head, Some(plan));
    let mut pace = Paces::of(supply.length());
    loop {
        if !pace.taken(&supply.hold(), &writer, writer.room()).await {
            return false;
        }
        let is_worth_finishing = is_worth_finishing(supply.length(), supply.received());
        let supplied = tokio::select! {
            biased;
            () = unread(engine, fill, &writer), if !is_worth_finishing => Err(End::Unwanted),
            supplied = pace.supplied(&mut supply, &writer) => supplied,
        };
        match supplied {
            Ok(Some(bytes)) => {
                if kept && fetched.length.is_none() && !fits(engine, &mut writer, bytes.len() as u64) {
                    kept = false;
                    engine.store.negative().remember_uncacheable(
                        &plan.key.lookup,
                        Reason::TooLarge.token(),
                        engine.clock.now(),
                    );
                    writer.pass(engine.config.limits.window_bytes);
                }
                if !kept && !hold(engine, &supply, &mut pace, &mut writer, bytes.len() as u64).await {
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
            Err(End::Cut(error)) => {
                cut(&error, supply.hop(), &plan.forward.target);
                return false;
            }
            Err(End::Unwanted) => return false,
        }
    }
    let mut asked = supply.into_asked();
    let trailers = asked.take_trailers();
    let fits = !kept || trailers.is_empty() || fits(engine, &mut writer, fields_weight(&trailers));
    writer.finish(if fits { trailers } else { HeaderMap::new() });
    engine.hops.release(asked).await;
    kept
}

/// Bad end of a body.
enum End {
    Cut(HopError),
    /// Nobody reads it any more, or its client is too slow and has lost its place to another request.
    Unwanted,
}

/// Rates of a body on its way. While other requests wait for a place at the origin, a client that takes its response too
/// slowly, or sends the rest of its request too slowly, loses its connection. An origin that sends a response without a
/// known length slowly, as endless ones are sent, keeps the connection, but no place.
struct Paces {
    /// How fast the slowest reader takes the body.
    reader: Pace,
    /// How fast the client sends the body of its request.
    upload: Pace,
    /// How fast the origin sends.
    origin: Pace,
    received: u64,
    is_endless: bool,
    /// When the rates are looked at next, however many pieces come until then.
    look_at: Instant,
}

impl Paces {
    fn of(length: Option<u64>) -> Self {
        let (reader, upload, origin) = Default::default();
        let look_at = instant() + LOOK_EVERY;
        Self { reader, upload, origin, received: 0, is_endless: length.is_none(), look_at }
    }

    /// Waits for `room`, which readers make. False if none is left, or the slowest had to give way.
    async fn taken(&mut self, held: &Hold, writer: &BodyWriter, room: impl Future<Output = bool>) -> bool {
        let mut room = std::pin::pin!(room);
        loop {
            if let Ok(room) = timeout(LOOK_EVERY, &mut room).await {
                return room;
            }
            if held.yields() {
                return false;
            }
            let (now, taken) = (instant(), writer.taken());
            if self.reader.is_slow(taken, now) && held.give_way() {
                tracing::info!("a response was cut: its client was slow while others waited for the origin");
                return false;
            }
        }
    }

    /// Waits for the next piece of the body, as long as somebody reads it.
    async fn supplied(&mut self, supply: &mut Supply<'_>, writer: &BodyWriter) -> Result<Option<Bytes>, End> {
        let held = supply.hold();
        let mut work = std::pin::pin!(supply.piece());
        loop {
            tokio::select! {
                biased;
                piece = &mut work => {
                    self.received += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, |bytes| bytes.len() as u64);
                    return piece.map_err(End::Cut);
                }
                () = writer.abandoned() => return Err(End::Unwanted),
                () = tokio::time::sleep_until(self.look_at.into()) => {}
            }
            let now = instant();
            self.look_at = now + LOOK_EVERY;
            if held.yields() {
                return Err(End::Unwanted);
            }
            if let Some(sent) = held.awaits_client()
                && self.upload.is_slow(sent, now)
                && held.give_way()
            {
                return Err(End::Unwanted);
            }
            if self.is_endless && self.origin.is_slow(self.received, now) {
                held.give_way();
            }
        }
    }
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
    !outgrows(writer.written(), more, engine.store.limits().object_bytes_max) && charge(engine, writer, more)
}

/// Whether a body of `written` bytes is too large to be stored with `more` of them.
fn outgrows(written: u64, more: u64, object_bytes_max: u64) -> bool {
    written + more > object_bytes_max
}

fn charge(engine: &Engine, writer: &mut BodyWriter, more: u64) -> bool {
    writer.charge(more) || {
        engine.store.make_room(more, engine.clock.now());
        writer.charge(more)
    }
}

/// Makes room for a piece of a body that passes; if there is none to be had, it goes on a piece at a time. False when nobody
/// reads it any more.
async fn hold(engine: &Engine, supply: &Supply<'_>, pace: &mut Paces, writer: &mut BodyWriter, bytes: u64) -> bool {
    charge(engine, writer, bytes) || pace.taken(&supply.hold(), writer, writer.emptied()).await
}

/// The body ends before it is whole; its writer is dropped with this.
fn cut(error: &HopError, upstream: &str, target: &[u8]) {
    let (reason, path) = (error.reason().token(), logged_path(target));
    tracing::warn!(upstream, reason, path, %error, "response cut short");
}

#[cfg(test)]
mod tests;
