//! Whom a publisher lets have its tracks (`subscription_permission`), and what subscribers are told of that. It counts
//! for tracks of media and of data; a recorder gets all (livekit 1.13.5 `room.go`, `participant_data_track.go`).

use super::participant::Participant;
use super::{Now, Room, Seat};
use crate::ids::{Identity, TrackSid};
use crate::protocol::livekit::{
    SubscriptionPermission, SubscriptionPermissionUpdate, signal_response,
};
use std::collections::{HashMap, HashSet};

/// Participants that a rule names. What comes after is not kept, and is therefore let to nobody.
const MAX_NAMED: usize = 4096;
/// SIDs of tracks in all of a rule.
const MAX_SIDS: usize = 4 * MAX_NAMED;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PermissionRule {
    /// Everybody.
    All,
    /// Those listed, with all tracks (`None`) or some.
    Only(HashMap<Identity, Option<HashSet<String>>>),
}

impl PermissionRule {
    fn allows(&self, identity: &Identity, sid: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(list) => match list.get(identity) {
                None => false,
                Some(None) => true,
                Some(Some(sids)) => sids.contains(sid),
            },
        }
    }
}

impl Participant {
    /// Whether `subscriber` may have one of its tracks.
    pub(super) fn lets(&self, subscriber: &Self, sid: &str) -> bool {
        subscriber.is_recorder() || self.rule.allows(&subscriber.identity, sid)
    }
}

impl Room {
    pub(super) fn update_subscription_permission(
        &mut self,
        now: Now,
        seat: Seat,
        permission: &SubscriptionPermission,
    ) {
        let rule = if permission.all_participants {
            PermissionRule::All
        } else {
            let mut list: HashMap<Identity, Option<HashSet<String>>> = HashMap::new();
            let mut free = MAX_SIDS;
            for entry in permission.track_permissions.iter().take(MAX_NAMED) {
                let identity = if entry.participant_identity.is_empty() {
                    self.seat_of(&entry.participant_sid)
                        .and_then(|seat| self.participant(seat))
                        .map(|p| p.identity.clone())
                } else {
                    Some(Identity::from(entry.participant_identity.as_str()))
                };
                let Some(identity) = identity else { continue };
                let tracks = (!entry.all_tracks).then(|| {
                    let sids: HashSet<String> =
                        entry.track_sids.iter().take(free).cloned().collect();
                    free -= sids.len();
                    sids
                });
                list.insert(identity, tracks);
            }
            PermissionRule::Only(list)
        };
        self.set_rule(now, seat, &rule);
        self.reflect(seat);
    }

    /// Whom a publisher lets have its tracks from now on.
    pub(super) fn set_rule(&mut self, now: Now, seat: Seat, rule: &PermissionRule) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.rule = rule.clone();
        let sids: Vec<TrackSid> = participant.tracks.keys().cloned().collect();
        let others: Vec<Seat> = self
            .participants
            .keys()
            .copied()
            .filter(|other| *other != seat)
            .collect();
        for other in others {
            for sid in &sids {
                let (Some(source), Some(subscriber)) =
                    (self.participant(seat), self.participant(other))
                else {
                    continue;
                };
                let allowed = source.lets(subscriber, sid.as_str());
                let Some(subscription) = subscriber.subscriptions.get(sid) else {
                    continue;
                };
                match (&subscription.down, allowed) {
                    (Some(_), false) => self.stop_down(now, other, sid),
                    (None, true) => self.start_down(now, other, seat, sid),
                    _ => {}
                }
            }
        }
        self.follow_rule_of_data(seat);
    }

    /// Tells a subscriber whether it may have a track.
    pub(super) fn say_allowed(&mut self, seat: Seat, publisher: Seat, sid: &str, allowed: bool) {
        let Some(publisher) = self.participant(publisher) else {
            return;
        };
        let update = SubscriptionPermissionUpdate {
            participant_sid: publisher.sid.as_str().to_owned(),
            track_sid: sid.to_owned(),
            allowed,
        };
        self.send(
            seat,
            signal_response::Message::SubscriptionPermissionUpdate(update),
        );
    }
}
