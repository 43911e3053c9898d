//! How a participant gets from the task of one room to that of another, with its WebSocket and its transports.
//!
//! What it sends meanwhile is parked: the old room turns the ways of its events and requests to queues of their own,
//! does what had arrived before, and lets it go; the new room takes it in, turns the ways to itself, and does what is
//! parked. So nothing is lost and nothing comes out of order. If a step fails the participant is dropped: its parked
//! queues close, and with them its transports and its WebSocket.

use super::actor::{Actor, EVENTS, Line, SIGNALS, Ways};
use super::directory::Handle;
use super::{Answer, Call, CallError, Inbound, SessionId};
use crate::ids::{TransportId, WorkerId};
use crate::plan::{Command, Event, EventSender};
use crate::protocol::livekit::{
    MoveParticipantRequest, ParticipantInfo, RoomParticipantIdentity, participant_info,
};
use crate::room::Emigrant;
use tokio::sync::{mpsc, oneshot};

/// A participant on its way.
#[derive(Debug)]
pub(super) struct Immigrant {
    emigrant: Emigrant,
    line: Option<Line>,
    /// What its transports told since it left.
    events: mpsc::Receiver<Event>,
    /// What its client asked since it left.
    requests: mpsc::Receiver<(SessionId, Inbound)>,
}

/// The whole way, step by step.
pub(super) async fn carry_over(
    hub: &Handle,
    request: MoveParticipantRequest,
) -> Result<Answer, CallError> {
    if request.room == request.destination_room {
        let text = "destination room is the room that the participant is in";
        return Err(CallError::Invalid(text.to_owned()));
    }
    let identity = RoomParticipantIdentity {
        room: request.room.clone(),
        identity: request.identity.clone(),
        ..Default::default()
    };
    let Answer::Participant(info) = hub.call(Call::GetParticipant(identity)).await? else {
        return Err(CallError::ParticipantNotFound);
    };
    let room = request.destination_room.clone();
    let expect = Call::Expect {
        room: room.clone(),
        is_dependent: is_dependent(&info),
    };
    hub.call(expect).await?;
    if let Some(immigrant) = hub.emigrate(request).await? {
        hub.immigrate(room, immigrant).await?;
    }
    Ok(Answer::Done)
}

#[expect(deprecated, reason = "rooms still know these two")]
fn is_dependent(info: &ParticipantInfo) -> bool {
    let permission = info.permission.clone().unwrap_or_default();
    let kind = info.kind();
    permission.agent
        || permission.recorder
        || matches!(
            kind,
            participant_info::Kind::Agent | participant_info::Kind::Egress
        )
}

impl Actor {
    /// Lets somebody go. `None`: its client was told to reconnect to the other room.
    pub(super) async fn emigrate(
        &mut self,
        request: &MoveParticipantRequest,
        ways: &mut Ways,
    ) -> Result<Option<Box<Immigrant>>, CallError> {
        let (identity, to) = (request.identity.as_str(), request.destination_room.as_str());
        let traveller = self.room.begin_move(self.now(), identity, to)?;
        if !traveller.is_moved {
            return Ok(None);
        }
        let (parking, events) = mpsc::channel(EVENTS);
        self.turn_events(traveller.worker, &traveller.transports, &parking)
            .await;
        drop(parking);
        while let Ok(event) = ways.events.try_recv() {
            self.room.handle_event(self.now(), event);
        }
        let (parking, requests) = mpsc::channel(SIGNALS);
        if let Some(line) = ways.lines.get(&traveller.session) {
            line.switch.turn(parking);
        }
        while let Ok((session, inbound)) = ways.signals.try_recv() {
            self.inbound(session, inbound);
        }
        self.carry_out(ways).await;
        // It may have left meanwhile.
        let emigrant = self.room.emigrate(self.now(), identity, to)?;
        self.carry_out(ways).await;
        let session = emigrant.session();
        let line = session.and_then(|session| ways.lines.remove(&session));
        Ok(Some(Box::new(Immigrant {
            emigrant,
            line,
            events,
            requests,
        })))
    }

    /// Takes somebody in.
    pub(super) async fn immigrate(&mut self, immigrant: Immigrant, ways: &mut Ways) {
        let Immigrant {
            emigrant,
            line,
            mut events,
            mut requests,
        } = immigrant;
        let (worker, transports) = (emigrant.worker(), emigrant.transports());
        let session = emigrant.session();
        if let (Some(session), Some(line)) = (session, line) {
            ways.lines.insert(session, line);
        }
        self.room.immigrate(self.now(), emigrant);
        // Our addresses may have changed while it was on the way.
        self.room
            .set_candidates(worker, &self.net.candidates(worker));
        self.carry_out(ways).await;
        let own = ways.events_in.clone();
        self.turn_events(worker, &transports, &own).await;
        // Ends at once: the worker has let go of the parked queue.
        while let Some(event) = events.recv().await {
            self.room.handle_event(self.now(), event);
        }
        if let Some(line) = session.and_then(|session| ways.lines.get(&session)) {
            line.switch.turn(ways.signals_in.clone());
        }
        while let Ok((session, inbound)) = requests.try_recv() {
            self.inbound(session, inbound);
        }
    }

    /// Has a worker tell the events of these transports elsewhere; returns when it does.
    async fn turn_events(&self, worker: WorkerId, ids: &[TransportId], to: &EventSender) {
        let mut turned = Vec::new();
        for &id in ids {
            let (done, told) = oneshot::channel();
            let events = to.clone();
            let command = Command::SetEvents { id, events, done };
            self.net.send(worker, command).await;
            turned.push(told);
        }
        for told in turned {
            // An error means that the worker has ended; then there are no events.
            drop(told.await);
        }
    }
}
