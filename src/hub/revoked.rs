//! Tokens that RemoveParticipant has declared void (`revoke_token_ts`; livekit-server ignores it).
//!
//! Owned by the directory, so that the room may end and begin again meanwhile. In memory: after a restart tokens are
//! good again until they expire.

use crate::ids::{Identity, RoomName};
use std::collections::HashMap;

/// An entry whose tokens nobody shows is kept this long, in seconds. LiveKit's SDKs make tokens of six hours.
const KEEP_S: u64 = 24 * 60 * 60;
/// A token may be shown this long after it expires, in seconds (livekit `auth.DefaultLeeway`).
const LEEWAY_S: u64 = 60;
/// Entries; past this the one that would go first goes.
const MAX: usize = 10_000;

/// From here a timestamp cannot be meant as seconds: it would be the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// `revoke_token_ts` in seconds. The wire, and the SDKs but one, count seconds; the Rust SDK's documentation says
/// milliseconds, and taken for seconds those would make every token of the identity void, those to come included.
pub(super) fn seconds(revoke_token_ts: u64) -> u64 {
    match revoke_token_ts {
        MILLISECONDS_FROM.. => revoke_token_ts / 1000,
        _ => revoke_token_ts,
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Tokens issued before this are void: seconds since 1970.
    before: u64,
    /// Kept until this moment, in seconds since 1970.
    until: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Revoked(HashMap<(RoomName, Identity), Entry>);

impl Revoked {
    /// Tokens of this identity for this room that were issued before `before` are void.
    pub(super) fn insert(&mut self, now: u64, room: &str, identity: &str, before: u64) {
        self.0.retain(|_, entry| entry.until > now);
        let key = (RoomName::from(room), Identity::from(identity));
        if self.0.len() >= MAX && !self.0.contains_key(&key) {
            let first = self.0.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                self.0.remove(&first);
            }
        }
        let entry = self.0.entry(key).or_insert(Entry { before, until: 0 });
        entry.before = entry.before.max(before);
        entry.until = entry.until.max(now.max(before).saturating_add(KEEP_S));
    }

    /// Whether a token is void. One that is and that lives long keeps its entry alive as long.
    pub(super) fn refuses(
        &mut self,
        room: &RoomName,
        identity: &str,
        issued: u64,
        expires: u64,
    ) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let key = (room.clone(), Identity::from(identity));
        let Some(entry) = self.0.get_mut(&key) else {
            return false;
        };
        let void = issued < entry.before;
        if void {
            entry.until = entry.until.max(expires.saturating_add(LEEWAY_S));
        }
        void
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn hall() -> RoomName {
        RoomName::from("hall")
    }

    #[test]
    fn tokens_from_before_are_void_for_that_room_and_identity_alone() {
        let mut revoked = Revoked::default();
        revoked.insert(NOW, "hall", "eve", NOW);
        let mut refuses =
            |room: &str, identity, issued| revoked.refuses(&room.into(), identity, issued, NOW);
        assert!(refuses("hall", "eve", NOW - 1));
        assert!(refuses("hall", "eve", 0));
        assert!(!refuses("hall", "eve", NOW));
        assert!(!refuses("hall", "bob", NOW - 1));
        assert!(!refuses("yard", "eve", NOW - 1));
    }

    #[test]
    fn milliseconds_are_understood() {
        assert_eq!(seconds(NOW), NOW);
        assert_eq!(seconds(NOW * 1000 + 999), NOW);
        assert_eq!(seconds(MILLISECONDS_FROM - 1), MILLISECONDS_FROM - 1);
    }

    #[test]
    fn a_second_removal_never_makes_tokens_good_again() {
        let mut revoked = Revoked::default();
        revoked.insert(NOW, "hall", "eve", NOW);
        revoked.insert(NOW + 1, "hall", "eve", NOW - 100);
        assert!(revoked.refuses(&hall(), "eve", NOW - 1, NOW));
    }

    #[test]
    fn entries_live_for_a_day_or_as_long_as_a_token_that_was_shown() {
        let mut revoked = Revoked::default();
        revoked.insert(NOW, "hall", "eve", NOW);
        revoked.insert(NOW, "hall", "mallory", NOW);
        assert!(revoked.refuses(&hall(), "mallory", 1, NOW + 30 * KEEP_S));
        revoked.insert(NOW + KEEP_S + 1, "yard", "x", NOW);
        assert_eq!(revoked.0.len(), 2);
        assert!(!revoked.refuses(&hall(), "eve", 1, NOW));
        assert!(revoked.refuses(&hall(), "mallory", 1, NOW));
        revoked.insert(NOW + 30 * KEEP_S + LEEWAY_S, "yard", "y", NOW);
        assert!(!revoked.refuses(&hall(), "mallory", 1, NOW));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut revoked = Revoked::default();
        for index in 0..MAX as u64 + 5 {
            revoked.insert(NOW + index, "hall", &index.to_string(), NOW + index);
        }
        assert_eq!(revoked.0.len(), MAX);
        assert!(!revoked.refuses(&hall(), "4", 0, 0));
        assert!(revoked.refuses(&hall(), "5", 0, 0));
    }
}
