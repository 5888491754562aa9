//! Idle connections that are closed for others: where all places of the node are taken, or all of a client network.

use std::pin::Pin;
use std::task::Context;

use tokio::sync::futures::Notified;

use super::places::Places;
use super::shares::Member;

/// What asks an idle connection to make place for another one.
pub(super) struct Sheds<'f, 'w> {
    places: &'w Places,
    member: &'w Member,
    by_node: Pin<&'f mut Notified<'w>>,
    by_network: Pin<&'f mut Notified<'w>>,
    /// How often connections were asked when that was last looked at.
    seen: Option<u64>,
}

impl<'f, 'w> Sheds<'f, 'w> {
    /// The two that wake the connection are those of `places` and of `member`.
    pub(super) fn new(
        places: &'w Places,
        member: &'w Member,
        by_node: Pin<&'f mut Notified<'w>>,
        by_network: Pin<&'f mut Notified<'w>>,
    ) -> Self {
        Self { places, member, by_node, by_network, seen: None }
    }

    /// Whether there is something to look at.
    pub(super) fn are_due(&self) -> bool {
        self.seen != Some(self.asked())
    }

    fn asked(&self) -> u64 {
        self.places.sheds().wrapping_add(self.member.sheds())
    }

    /// Whether this idle connection is to make place. If not, it can be woken for that. One that has not `asked` for
    /// anything yet stays: its client has every reason to.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, has_asked: bool) -> bool {
        let asked = self.asked();
        if self.seen == Some(asked) {
            return false;
        }
        // It may have come while the connection was busy, or for one that has found a place since.
        while self.by_node.as_mut().poll(cx).is_ready() {
            if has_asked && self.places.are_short() {
                return true;
            }
            self.by_node.set(self.places.shed.notified());
        }
        while self.by_network.as_mut().poll(cx).is_ready() {
            if has_asked && self.member.is_short() {
                return true;
            }
            self.by_network.set(self.member.shed());
        }
        self.seen = Some(asked);
        false
    }
}
