//! What the workers would make of a room's commands: each must be about something that is there.

use super::*;
use crate::ids::{DownTrackId, UpTrackId};
use crate::plan::{DataChannels, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// The transports, tracks and mirrors that a room has asked for. It panics at a command that no worker could carry out.
#[derive(Debug, Default)]
pub(super) struct Workers {
    transports: BTreeMap<TransportId, WorkerId>,
    closed: BTreeSet<TransportId>,
    /// Nothing is sent on their data channels, and nobody is told when they open.
    silent: BTreeSet<TransportId>,
    /// What comes on their data channels is not read.
    pub(super) held: BTreeSet<TransportId>,
    pub(super) ups: BTreeMap<UpTrackId, (TransportId, Kind)>,
    pub(super) downs: BTreeMap<DownTrackId, Down>,
    /// Copies that a worker was told to expect, with the worker that makes them.
    mirrors: BTreeMap<(UpTrackId, WorkerId), WorkerId>,
    /// Copies that a worker was told to make.
    copies: BTreeSet<(UpTrackId, WorkerId)>,
}

#[derive(Debug)]
pub(super) struct Down {
    pub(super) transport: TransportId,
    pub(super) up: UpTrackId,
    pub(super) is_closing: bool,
}

impl Workers {
    /// Nothing is left.
    pub(super) fn are_idle(&self) -> bool {
        self.transports.is_empty()
            && self.ups.is_empty()
            && self.downs.is_empty()
            && self.mirrors.is_empty()
            && self.copies.is_empty()
            && self.held.is_empty()
    }

    pub(super) fn is_open(&self, id: TransportId) -> bool {
        self.transports.contains_key(&id)
    }

    /// The room waits to be told that its channels are open.
    pub(super) fn tells_open(&self, id: TransportId) -> bool {
        self.is_open(id) && !self.silent.contains(&id)
    }

    pub(super) fn open(&mut self, worker: WorkerId, id: TransportId, channels: DataChannels) {
        assert!(!self.closed.contains(&id), "{id:?} is used twice");
        let before = self.transports.insert(id, worker);
        assert_eq!(before, None, "{id:?} is open");
        if channels == DataChannels::TheirsAlone {
            self.silent.insert(id);
        }
    }

    /// Somebody has come along from another room.
    pub(super) fn adopt(&mut self, emigrant: &Emigrant) {
        let transports = emigrant.transports().into_iter();
        self.transports
            .extend(transports.map(|id| (id, emigrant.worker())));
    }

    /// The end of a down track has been told.
    pub(super) fn end_down(&mut self, id: DownTrackId) {
        self.downs.remove(&id);
    }

    pub(super) fn take(&mut self, worker: WorkerId, command: &Command) {
        match command {
            Command::SetRemote { id, .. }
            | Command::AddRemoteCandidate { id, .. }
            | Command::SetEvents { id, .. }
            | Command::LimitBandwidth { id, .. } => self.check(worker, *id, command),
            Command::CloseTransport { id } => {
                self.check(worker, *id, command);
                self.transports.remove(id);
                self.held.remove(id);
                self.closed.insert(*id);
                self.downs.retain(|_, down| down.transport != *id);
                self.ups.retain(|_, (transport, _)| transport != id);
            }
            Command::SetReceive { id, plan } => {
                self.check(worker, *id, command);
                self.ups.retain(|_, (transport, _)| transport != id);
                for track in &plan.tracks {
                    let before = self.ups.insert(track.up, (*id, track.kind));
                    assert_eq!(before, None, "{:?} comes twice", track.up);
                }
            }
            Command::OpenMirror { up, from, .. } => {
                let before = self.mirrors.insert((*up, worker), *from);
                assert_eq!(before, None, "{up:?} is mirrored");
                assert_ne!(worker, *from);
            }
            Command::CloseMirror { up } => {
                let before = self.mirrors.remove(&(*up, worker));
                assert!(before.is_some(), "{up:?} is not mirrored");
                // Its down tracks end with it.
                let transports = &self.transports;
                let ends = |down: &Down| transports.get(&down.transport) == Some(&worker);
                self.downs.retain(|_, down| down.up != *up || !ends(down));
            }
            Command::SetMirror { up, to, on: true } => {
                assert!(self.copies.insert((*up, *to)), "{up:?} is copied");
            }
            Command::SetMirror { up, to, on: false } => {
                assert!(self.copies.remove(&(*up, *to)), "{up:?} is not copied");
            }
            Command::OpenDown { plan } => {
                self.check(worker, plan.transport, command);
                let down = Down {
                    transport: plan.transport,
                    up: plan.up,
                    is_closing: false,
                };
                if let Some(before) = self.downs.insert(plan.down, down) {
                    assert_eq!(before.transport, plan.transport, "{:?} moved", plan.down);
                    assert!(!before.is_closing, "{:?} was closed", plan.down);
                }
            }
            Command::SetWanted { down, .. } => {
                let known = self.downs.get(down);
                assert!(known.is_some_and(|down| !down.is_closing), "{command:?}");
            }
            Command::CloseDown { down } => {
                let known = self.downs.get_mut(down).expect("a down track to close");
                assert!(!known.is_closing, "{down:?} is closed twice");
                known.is_closing = true;
            }
            Command::HoldData { id, hold } => {
                self.check(worker, *id, command);
                let changed = if *hold {
                    self.held.insert(*id)
                } else {
                    self.held.remove(id)
                };
                assert!(changed, "it is so already: {command:?}");
            }
            Command::SendData { to, .. } => {
                for id in to {
                    self.check(worker, *id, command);
                    assert!(!self.silent.contains(id), "{command:?}");
                }
            }
            Command::SetMuted { .. }
            | Command::OpenTransport { .. }
            | Command::Report { .. }
            | Command::Stop => {}
        }
    }

    fn check(&self, worker: WorkerId, id: TransportId, command: &Command) {
        assert!(!self.closed.contains(&id), "it is closed: {command:?}");
        assert_eq!(self.transports.get(&id), Some(&worker), "{command:?}");
    }
}
