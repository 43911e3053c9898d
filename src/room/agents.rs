//! What the keeper of agents hears of a room: that it is there, who is in it and publishes, that it is over
//! (livekit 1.13.5 `pkg/rtc/room.go`, `agentclient`).
//!
//! Facts only. Which agent is sent where is decided in [`crate::agent`].

use super::{Output, Room, Seat};
use crate::protocol::livekit::{self as proto, ParticipantInfo, RoomAgentDispatch};

/// Something that happened in a room, in the order in which it did.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A room is there.
    Started {
        /// As it is now.
        room: proto::Room,
        /// Agents that it asks for; none: whichever agent serves all rooms.
        agents: Vec<RoomAgentDispatch>,
    },
    /// A room's record has changed.
    Changed {
        /// As it is now.
        room: proto::Room,
    },
    /// Media of a participant flows.
    Joined {
        /// The room's name.
        room: String,
        /// As it is now.
        participant: ParticipantInfo,
        /// An agent or a recorder: no agent is called because of it.
        dependent: bool,
    },
    /// A participant publishes for the first time.
    Published {
        /// The room's name.
        room: String,
        /// As it is now.
        participant: ParticipantInfo,
    },
    /// A participant is gone.
    Left {
        /// The room's name.
        room: String,
        /// `PA_…`.
        sid: String,
        /// Who it was.
        identity: String,
    },
    /// The room is over.
    Finished {
        /// Its name.
        room: String,
    },
}

impl Room {
    pub(super) fn agents_of_start(&mut self) {
        let fact = Fact::Started {
            room: self.snapshot(),
            agents: std::mem::take(&mut self.agents),
        };
        self.tell_agents(fact);
    }

    pub(super) fn agents_of_change(&mut self) {
        let room = self.snapshot();
        self.tell_agents(Fact::Changed { room });
    }

    pub(super) fn agents_of_join(&mut self, seat: Seat) {
        let Some(participant) = self.participant(seat) else {
            return;
        };
        let fact = Fact::Joined {
            room: self.info.name.clone(),
            participant: participant.info(),
            dependent: participant.is_dependent(),
        };
        self.tell_agents(fact);
    }

    /// Told of every track of an ACTIVE participant; the first one counts.
    pub(super) fn agents_of_track(&mut self, seat: Seat) {
        let Some(participant) = self.participant(seat).filter(|p| !p.is_dependent()) else {
            return;
        };
        let fact = Fact::Published {
            room: self.info.name.clone(),
            participant: participant.info(),
        };
        self.tell_agents(fact);
    }

    pub(super) fn agents_of_leave(&mut self, info: &ParticipantInfo) {
        let fact = Fact::Left {
            room: self.info.name.clone(),
            sid: info.sid.clone(),
            identity: info.identity.clone(),
        };
        self.tell_agents(fact);
    }

    pub(super) fn agents_of_end(&mut self) {
        let room = self.info.name.clone();
        self.tell_agents(Fact::Finished { room });
    }

    fn tell_agents(&mut self, fact: Fact) {
        self.outputs.push_back(Output::Agent(Box::new(fact)));
    }
}
