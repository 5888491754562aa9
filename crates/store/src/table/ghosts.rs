//! Which keys were evicted lately: who is asked for again soon after was evicted too early.
//!
//! Half as many are remembered as there are entries: measured, fewer miss what comes back, more let in what does not
//! stay. Tags form groups, each with a short queue; who comes pushes out the oldest of its group, which comes to about
//! the same as one long queue, for four bytes each. Tags may be equal by chance; then a new entry is believed to be an
//! old one, and stays a bit longer.

/// So many tags share a group: enough that groups fill evenly, and half a cache line.
const GROUP: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Each with the latest first; 0 is nobody.
    groups: Box<[[u32; GROUP]]>,
}

impl Ghosts {
    /// Remembers a key that was evicted from among so many `entries`.
    pub(super) fn add(&mut self, tag: u32, entries: usize) {
        let enough = entries / (2 * GROUP) + 1;
        if self.groups.len() < enough || self.groups.len() > 2 * enough {
            let groups = vec![[0; GROUP]; enough + enough / 4].into_boxed_slice();
            let old = std::mem::replace(&mut self.groups, groups);
            for tag in old.iter().flat_map(|group| group.iter().rev()).filter(|tag| **tag != 0) {
                self.push(*tag);
            }
        }
        self.push(tag);
    }

    /// Whether a key is remembered; it is not any more after that.
    pub(super) fn take(&mut self, tag: u32) -> bool {
        let place = self.group(tag);
        let Some(group) = self.groups.get_mut(place) else { return false };
        let Some(found) = group.iter_mut().find(|other| **other == tag && tag != 0) else { return false };
        *found = 0;
        true
    }

    fn push(&mut self, tag: u32) {
        let place = self.group(tag);
        if let Some(group) = self.groups.get_mut(place) {
            group.rotate_right(1);
            group[0] = tag;
        }
    }

    /// A group for each tag, evenly: its part of all tags, times the number of groups.
    fn group(&self, tag: u32) -> usize {
        usize::try_from((u64::from(tag) * self.groups.len() as u64) >> 32).unwrap_or(0)
    }
}
