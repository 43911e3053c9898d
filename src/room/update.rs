//! Who is told of what changed, and when: publishers' changes at once, others' at a beat of 3 s, counts of 5 s.

use super::participant::Participant;
use super::{Now, ROOM_UPDATE_BEAT, Room, Seat, UPDATE_BEAT};
use crate::ids::Identity;
use crate::protocol::livekit::{
    ParticipantInfo, ParticipantUpdate, RoomUpdate, UpdateParticipantMetadata, participant_info,
    request_response, signal_response,
};
use crate::protocol::signal::Encoded;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The first protocol whose clients know a participant again by its identity (livekit 1.13.5
/// `SupportsIdentityBasedReconnection`).
const KNOWS_IDENTITIES: u32 = 12;

/// Changes waiting for their beat.
#[derive(Debug)]
pub(super) struct Pending {
    /// By SID: the newest info of a participant that does not publish.
    infos: BTreeMap<String, (Seat, ParticipantInfo)>,
    infos_at: Option<Instant>,
    counts_at: Option<Instant>,
    counts_sent: Option<Instant>,
    born: Instant,
}

impl Pending {
    pub(super) fn new(born: Instant) -> Self {
        Self {
            infos: BTreeMap::new(),
            infos_at: None,
            counts_at: None,
            counts_sent: None,
            born,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.infos_at.into_iter().chain(self.counts_at).min()
    }

    /// When the room began.
    pub(super) fn born(&self) -> Instant {
        self.born
    }

    /// The next whole beat of the room's life.
    fn next_beat(&self, now: Instant) -> Instant {
        let beats = (now - self.born).as_millis() / UPDATE_BEAT.as_millis() + 1;
        self.born + UPDATE_BEAT * beats as u32
    }
}

impl Room {
    /// Something about a participant changed that all may know: a new version, told now or at the next beat.
    pub(super) fn changed(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.version += 1;
        let info = participant.info();
        if participant.is_publisher {
            self.tell(seat, info);
        } else {
            self.tell_later(now, seat, info);
        }
        self.reflect(seat);
    }

    /// The same, told at once whoever it is (metadata, permissions).
    pub(super) fn changed_now(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.version += 1;
        let info = participant.info();
        self.tell(seat, info);
        self.reflect(seat);
    }

    /// Tells everybody, the subject too. Hidden participants hear only of themselves.
    pub(super) fn tell(&mut self, seat: Seat, info: ParticipantInfo) {
        let hidden = info.permission.as_ref().is_some_and(|p| p.hidden);
        self.update.infos.remove(&info.sid);
        self.tell_those(vec![info], |other| !hidden || other.seat == seat);
    }

    fn tell_those(
        &mut self,
        participants: Vec<ParticipantInfo>,
        whom: impl Fn(&Participant) -> bool,
    ) {
        let update = ParticipantUpdate { participants };
        let message = Arc::new(Encoded::new(signal_response::Message::Update(update)));
        let others = self.participants.values().filter(|other| whom(other));
        let seats: Vec<Seat> = others.map(|other| other.seat).collect();
        for seat in seats {
            self.send_shared(seat, &message);
        }
    }

    /// Somebody is not to be seen any more, if it was: the others hear that it is gone.
    pub(super) fn hide(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.permission.hidden {
            return;
        }
        let state = participant.state;
        let info = participant.farewell();
        participant.state = state;
        let sid = participant.sid.clone();
        self.silence(now, seat, &sid);
        self.update.infos.remove(&info.sid);
        self.remember_farewell(now, info.clone());
        self.tell_those(vec![info], |other| other.seat != seat);
    }

    /// Somebody comes of whom the others have yet to hear that it went: that would undo what they hear of its coming.
    pub(super) fn settle_farewell(&mut self, identity: &Identity, is_hidden: bool) {
        let is_its = |info: &ParticipantInfo| {
            info.identity == identity.as_str()
                && info.state() == participant_info::State::Disconnected
        };
        let mut infos = self.update.infos.iter();
        let sid = infos.find(|(_, (_, info))| is_its(info));
        let sid = sid.map(|(sid, _)| sid.clone());
        let Some((seat, info)) = sid.and_then(|sid| self.update.infos.remove(&sid)) else {
            return;
        };
        if is_hidden {
            self.tell(seat, info);
        } else {
            self.tell_replaced(info);
        }
    }

    /// Somebody has come back and takes its own place. Clients that go by SIDs would keep the one before for ever, so
    /// they hear that it is gone; all others find its identity under another SID, and no gap.
    pub(super) fn tell_replaced(&mut self, info: ParticipantInfo) {
        if info.permission.as_ref().is_some_and(|p| p.hidden) {
            return;
        }
        self.tell_those(vec![info], |other| other.protocol < KNOWS_IDENTITIES);
    }

    pub(super) fn tell_later(&mut self, now: Now, seat: Seat, info: ParticipantInfo) {
        self.update.infos.insert(info.sid.clone(), (seat, info));
        if self.update.infos_at.is_none() {
            self.update.infos_at = Some(self.update.next_beat(now.at));
        }
    }

    /// A newcomer publishes or is subscribed to: whatever waits about it is told first, so that no client meets a
    /// track of somebody it has never heard of.
    pub(super) fn tell_pending_of(&mut self, seat: Seat) {
        let waiting = self
            .participants
            .get(&seat)
            .and_then(|p| self.update.infos.remove(p.sid.as_str()));
        if let Some((seat, info)) = waiting {
            self.tell(seat, info);
        }
    }

    /// People, publishers or recorders may have come or gone. That a room is recorded, or no longer, is told at once.
    pub(super) fn counts_changed(&mut self, now: Now) {
        if self.is_recorded() == self.info.active_recording {
            self.tell_counts_later(now);
        } else {
            self.tell_counts(now);
        }
    }

    /// Counts that have changed are told at their beat.
    pub(super) fn tell_counts_later(&mut self, now: Now) {
        self.revision += 1;
        if self.count() == (self.info.num_participants, self.info.num_publishers) {
            return;
        }
        if self.update.counts_at.is_none() {
            let earliest = self
                .update
                .counts_sent
                .map_or(now.at + ROOM_UPDATE_BEAT, |last| {
                    (last + ROOM_UPDATE_BEAT).max(now.at)
                });
            self.update.counts_at = Some(earliest);
        }
    }

    pub(super) fn flush_updates(&mut self, now: Now) {
        if self.update.counts_at.is_some_and(|at| at <= now.at) {
            self.tell_counts(now);
        }
        if self.update.infos_at.is_some_and(|at| at <= now.at) {
            self.update.infos_at = None;
            let waiting = std::mem::take(&mut self.update.infos);
            let (hidden, shown): (Vec<_>, Vec<_>) = waiting
                .into_values()
                .partition(|(_, info)| info.permission.as_ref().is_some_and(|p| p.hidden));
            for (seat, info) in hidden {
                self.send(
                    seat,
                    signal_response::Message::Update(ParticipantUpdate {
                        participants: vec![info],
                    }),
                );
            }
            if shown.is_empty() {
                return;
            }
            let infos = shown.into_iter().map(|(_, info)| info).collect();
            self.tell_those(infos, |_| true);
        }
    }

    /// Tells the whole room record now, counts refreshed.
    pub(super) fn tell_counts(&mut self, now: Now) {
        self.update.counts_at = None;
        self.update.counts_sent = Some(now.at);
        self.revision += 1;
        (self.info.num_participants, self.info.num_publishers) = self.count();
        self.info.active_recording = self.is_recorded();
        let message = Arc::new(Encoded::new(signal_response::Message::RoomUpdate(
            RoomUpdate {
                room: Some(self.info.clone()),
            },
        )));
        let seats: Vec<Seat> = self.participants.keys().copied().collect();
        for seat in seats {
            self.send_shared(seat, &message);
        }
    }

    /// Whether counts may be told right now.
    pub(super) fn counts_are_due(&self, now: Now) -> bool {
        self.update
            .counts_sent
            .is_none_or(|last| last + ROOM_UPDATE_BEAT <= now.at)
    }

    pub(super) fn update_own_metadata(
        &mut self,
        now: Now,
        seat: Seat,
        update: UpdateParticipantMetadata,
    ) {
        use request_response::Reason;
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let id = update.request_id;
        if !participant.permission.can_update_metadata {
            let text = "does not have permission to update own metadata";
            let echo = request_response::Request::UpdateMetadata(update);
            self.refuse(seat, id, Reason::NotAllowed, text, Some(echo));
            return;
        }
        let limits = &self.settings.limits;
        let mut attributes = participant.claims.attributes.clone();
        for (key, value) in &update.attributes {
            if value.is_empty() {
                attributes.remove(key);
            } else {
                attributes.insert(key.clone(), value.clone());
            }
        }
        let attributes_size: usize = attributes
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let over = |limit: usize, size: usize| limit > 0 && size > limit;
        let exceeded = if over(
            limits.max_participant_name_length,
            update.name.chars().count(),
        ) {
            Some("exceeds name length limit")
        } else if over(limits.max_metadata_size, update.metadata.len()) {
            Some("exceeds metadata size limit")
        } else if over(limits.max_attributes_size, attributes_size) {
            Some("exceeds attributes size limit")
        } else {
            None
        };
        if let Some(text) = exceeded {
            let echo = request_response::Request::UpdateMetadata(update);
            self.refuse(seat, id, Reason::LimitExceeded, text, Some(echo));
            return;
        }
        if !update.metadata.is_empty() {
            participant.claims.metadata.clone_from(&update.metadata);
        }
        if !update.name.is_empty() {
            participant.claims.name.clone_from(&update.name);
        }
        participant.claims.attributes = attributes;
        let tells_success = participant.protocol > 14;
        self.changed_now(seat);
        self.refresh_token(now, seat);
        if tells_success {
            let echo = request_response::Request::UpdateMetadata(update);
            self.refuse(seat, id, Reason::Ok, "", Some(echo));
        }
    }

    /// Media flows for the first time: the participant is there for all.
    pub(super) fn becomes_active(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.expires = None;
        if participant.is_active() {
            return;
        }
        participant.state = participant_info::State::Active;
        self.qualities.start(now.at, self.update.born());
        self.changed(now, seat);
        self.hook_joined(now, seat);
    }
}

impl Participant {
    /// The last thing that is said of it.
    pub(super) fn farewell(&mut self) -> ParticipantInfo {
        self.version += 1;
        self.state = participant_info::State::Disconnected;
        let mut info = self.info();
        info.tracks.clear();
        info.data_tracks.clear();
        info
    }
}

impl Room {
    /// Somebody who was never announced has gone again: nothing is said.
    pub(super) fn forget_pending(&mut self, sid: &str) {
        self.update.infos.remove(sid);
    }
}
