//! What a room asks of the plane.

use super::Plane;
use super::peer::Peer;
use crate::ids::Ssrc;
use crate::ids::{DownTrackId, TransportId, UpTrackId, WorkerId};
use crate::media::downtrack::{DownTrack, Places};
use crate::media::feed::Feed;
use crate::media::io::Sink;
use crate::media::link::LinkMessage;
use crate::media::mute::{CLOSING_FOR, MUTED_FOR};
use crate::media::route::Routes;
use crate::media::timers::{Armed, Wake};
use crate::media::transport::{HoldReason, Transport, TransportConfig};
use crate::media::twcc::TwccRecorder;
use crate::media::uptrack::UpTrack;
use crate::plan::{Command, DownTrackPlan, Event, IceCredentials, Kind, ReceivePlan};
use std::sync::Arc;
use std::time::Instant;

/// Local ufrags of one transport that are answered: the one in force and the one before a restart.
const MAX_UFRAGS: usize = 2;

impl Plane {
    pub(super) fn apply(&mut self, now: Instant, command: Command, sink: &mut impl Sink) {
        match command {
            Command::OpenTransport {
                id,
                local,
                controlling,
                lite,
                channels,
                events: _,
            } => {
                let config = TransportConfig {
                    local,
                    controlling,
                    lite,
                    channels,
                    candidates: &self.config.candidates,
                    certificate: Arc::clone(&self.config.certificate),
                };
                let ufrag = config.local.ufrag.clone();
                let transport = Transport::new(now, id, config);
                self.open_transport(id, transport, &ufrag, sink);
            }
            Command::SetRemote { id, remote, local } => {
                if let Some(place) = self.peer_of.get(&id).copied()
                    && let Some(peer) = self.peers.get_mut(place)
                {
                    peer.transport.set_remote(now, &remote, local.as_ref());
                    if let Some(IceCredentials { ufrag, .. }) = local {
                        self.add_ufrag(place, &ufrag);
                    }
                    self.touch(place);
                }
            }
            Command::AddRemoteCandidate { id, candidate } => {
                if let Some(place) = self.peer_of.get(&id).copied()
                    && let Some(peer) = self.peers.get_mut(place)
                {
                    peer.transport.add_remote_candidate(now, candidate);
                    self.touch(place);
                }
            }
            Command::CloseTransport { id } => self.close_transport(now, id, sink),
            Command::SetReceive { id, plan } => self.set_receive(id, plan),
            Command::SetMuted { up, muted } => {
                if let Some(feed) = self.feed_mut(up) {
                    for worker in feed.mirrors.clone() {
                        self.links
                            .push_back((worker, LinkMessage::Muted { up, muted }));
                    }
                }
                self.set_feed_muted(now, up, muted, sink);
            }
            Command::SetMirror { up, to, on } => self.set_mirror(up, to, on),
            Command::OpenMirror { up, from, kind } => {
                let place = self.feed_for(up, kind);
                if let Some(feed) = self.feeds.get_mut(place) {
                    feed.mirror_of = Some(from);
                    feed.mirror_users += 1;
                    feed.has_source = true;
                }
            }
            Command::CloseMirror { up } => self.close_mirror(up),
            Command::OpenDown { plan } => self.open_down(now, *plan, sink),
            Command::SetWanted { down, wanted } => {
                if let Some(place) = self.down_of.get(&down).copied()
                    && let Some(down) = self.downs.get_mut(place)
                {
                    down.set_wanted(now, wanted);
                    self.serve(now, place, sink);
                }
            }
            Command::CloseDown { down } => self.close_down(now, down, sink),
            Command::SendData {
                to,
                channel,
                payload,
            } => {
                for id in to {
                    if let Some(place) = self.peer_of.get(&id).copied()
                        && let Some(peer) = self.peers.get_mut(place)
                    {
                        // A full or missing channel is told by an event, or is lossy.
                        peer.transport.send_data(now, channel, &payload);
                        self.touch(place);
                    }
                }
            }
            Command::HoldData { id, hold } => self.set_data_hold(id, HoldReason::Readers, hold),
            Command::LimitBandwidth { id, bitrate } => {
                if let Some(place) = self.peer_of.get(&id).copied()
                    && let Some(peer) = self.peers.get_mut(place)
                {
                    peer.ceiling = bitrate;
                    if let Some(bitrate) = bitrate {
                        self.handle_estimate(now, place, bitrate);
                    }
                }
            }
            // The driver's business.
            Command::SetEvents { .. } => {}
            Command::Report { to } => {
                // Whoever asked may have gone.
                drop(to.send(self.report()));
            }
            Command::Stop => {
                let all: Vec<TransportId> = self.peer_of.keys().copied().collect();
                for id in all {
                    self.close_transport(now, id, sink);
                }
            }
        }
    }

    fn open_transport(
        &mut self,
        id: TransportId,
        transport: Transport,
        ufrag: &str,
        _sink: &mut impl Sink,
    ) {
        if self.peer_of.contains_key(&id) {
            return;
        }
        let local_ssrc = Ssrc(self.random.u32());
        let peer = Peer {
            id,
            transport,
            ufrags: Vec::new(),
            paths: Vec::new(),
            armed: Armed::default(),
            is_touched: false,
            read: 0,
            plan: ReceivePlan::default(),
            routes: Routes::default(),
            ups: Vec::new(),
            downs: Vec::new(),
            twcc: TwccRecorder::new(local_ssrc),
            report_at: None,
            nack_at: None,
            key_frame_at: None,
            quality_at: None,
            local_ssrc,
            transport_seq: self.random.u32() as u16,
            remb: None,
            ceiling: None,
        };
        let place = self.peers.insert(peer);
        self.peer_of.insert(id, place);
        self.add_ufrag(place, ufrag);
        self.touch(place);
    }

    fn add_ufrag(&mut self, place: u32, ufrag: &str) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        if peer.ufrags.iter().any(|known| &**known == ufrag) {
            return;
        }
        if peer.ufrags.len() >= MAX_UFRAGS {
            let gone = peer.ufrags.remove(0);
            self.by_ufrag.remove(&gone);
        }
        peer.ufrags.push(ufrag.into());
        self.by_ufrag.insert(ufrag.into(), place);
    }

    fn close_transport(&mut self, now: Instant, id: TransportId, sink: &mut impl Sink) {
        let Some(place) = self.peer_of.remove(&id) else {
            return;
        };
        self.count_faults(place);
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        // What was sent just before.
        peer.transport.flush(now, sink);
        peer.transport.close(now);
        peer.transport.flush(now, sink);
        let (ups, downs) = (
            std::mem::take(&mut peer.ups),
            std::mem::take(&mut peer.downs),
        );
        for down in downs {
            self.end_down(down);
        }
        for up in ups {
            self.end_up(up);
        }
        if let Some(mut peer) = self.peers.remove(place) {
            let wake = Wake::Transport(place);
            self.timers.set(&mut peer.armed, wake, None);
            for ufrag in &peer.ufrags {
                self.by_ufrag.remove(ufrag);
            }
            for path in &peer.paths {
                if self.by_path.get(path) == Some(&place) {
                    self.by_path.remove(path);
                }
            }
        }
        self.touched.retain(|touched| *touched != place);
        self.last_path = None;
    }

    fn set_receive(&mut self, id: TransportId, plan: ReceivePlan) {
        let Some(place) = self.peer_of.get(&id).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let old = std::mem::replace(&mut peer.plan, plan.clone());
        peer.routes.set_plan(&old, &plan);
        let before = std::mem::take(&mut peer.ups);
        let mut ups = Vec::with_capacity(plan.tracks.len());
        for track in plan.tracks {
            let known = self
                .up_of
                .get(&track.up)
                .copied()
                .filter(|up| before.contains(up));
            let up = if let Some(known) = known {
                if let Some(up) = self.ups.get_mut(known) {
                    up.set_plan(track);
                }
                known
            } else {
                let (id, kind) = (track.up, track.kind);
                let feed = self.feed_for(id, kind);
                if let Some(feed) = self.feeds.get_mut(feed) {
                    feed.has_source = true;
                }
                let up = self.ups.insert(UpTrack::new(track, place, feed));
                self.up_of.insert(id, up);
                up
            };
            ups.push(up);
        }
        for gone in before {
            if !ups.contains(&gone) {
                self.end_up(gone);
            }
        }
        if let Some(peer) = self.peers.get_mut(place) {
            peer.ups = ups;
        }
        self.touch(place);
    }

    fn end_up(&mut self, place: u32) {
        let Some(up) = self.ups.remove(place) else {
            return;
        };
        if self.up_of.get(&up.plan.up) == Some(&place) {
            self.up_of.remove(&up.plan.up);
        }
        self.end_feed(up.feed);
    }

    /// The feed of a track on this worker.
    fn feed_for(&mut self, up: UpTrackId, kind: Kind) -> u32 {
        if let Some(&place) = self.feed_of.get(&up) {
            return place;
        }
        let place = self.feeds.insert(Feed::new(up, kind));
        self.feed_of.insert(up, place);
        place
    }

    /// The source of a feed has ended; it goes with its last down track.
    fn end_feed(&mut self, place: u32) {
        if let Some(feed) = self.feeds.get_mut(place) {
            feed.has_source = false;
            feed.mirrors.clear();
            feed.mirror_asks.clear();
        }
        self.drop_feed_if_unused(place);
    }

    fn drop_feed_if_unused(&mut self, place: u32) {
        let Some(feed) = self.feeds.get(place) else {
            return;
        };
        if !feed.has_source && feed.downs.is_empty() {
            self.feed_of.remove(&feed.up);
            self.feeds.remove(place);
        }
    }

    fn set_mirror(&mut self, up: UpTrackId, to: WorkerId, on: bool) {
        let own = self.config.worker;
        let Some(feed) = self.feed_mut(up).filter(|_| to != own) else {
            return;
        };
        if !on {
            if let Some(ask) = feed.mirror_asks.iter().position(|worker| *worker == to) {
                feed.mirror_asks.swap_remove(ask);
            }
            if !feed.mirror_asks.contains(&to) {
                feed.mirrors.retain(|worker| *worker != to);
            }
            return;
        }
        feed.mirror_asks.push(to);
        if feed.mirrors.contains(&to) {
            return;
        }
        feed.mirrors.push(to);
        let mut messages: Vec<LinkMessage> = feed
            .clocks()
            .map(|(spatial, map)| LinkMessage::Clock { up, spatial, map })
            .collect();
        if feed.is_muted {
            messages.push(LinkMessage::Muted { up, muted: true });
        }
        self.links
            .extend(messages.into_iter().map(|message| (to, message)));
    }

    fn close_mirror(&mut self, up: UpTrackId) {
        let Some(&place) = self.feed_of.get(&up) else {
            return;
        };
        let Some(feed) = self.feeds.get_mut(place) else {
            return;
        };
        feed.mirror_users = feed.mirror_users.saturating_sub(1);
        if feed.mirror_users > 0 {
            return;
        }
        for down in feed.downs.clone() {
            self.end_down(down);
        }
        self.end_feed(place);
    }

    fn open_down(&mut self, now: Instant, plan: DownTrackPlan, sink: &mut impl Sink) {
        let Some(transport) = self.peer_of.get(&plan.transport).copied() else {
            return;
        };
        if let Some(place) = self.down_of.get(&plan.down).copied() {
            self.change_feed(now, place, &plan);
            if let Some(down) = self.downs.get_mut(place) {
                let before = std::mem::replace(&mut down.transport, transport);
                down.set_plan(now, plan);
                if before != transport {
                    if let Some(peer) = self.peers.get_mut(before) {
                        peer.downs.retain(|other| *other != place);
                    }
                    if let Some(peer) = self.peers.get_mut(transport) {
                        peer.downs.push(place);
                    }
                }
            }
            self.serve(now, place, sink);
            return;
        }
        let (id, up) = (plan.down, plan.up);
        let feed = self.feed_for(up, plan.kind);
        let places = Places { transport, feed };
        let down = DownTrack::new(now, plan, places, &mut self.random);
        let place = self.downs.insert(down);
        self.down_of.insert(id, place);
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.downs.push(place);
        }
        if let Some(peer) = self.peers.get_mut(transport) {
            peer.downs.push(place);
        }
        self.touch(transport);
        self.serve(now, place, sink);
    }

    /// A down track may go on with another up track: another codec of the same publication.
    fn change_feed(&mut self, now: Instant, place: u32, plan: &DownTrackPlan) {
        let changes = self.downs.get(place).map(|down| down.plan.up != plan.up);
        if changes != Some(true) {
            return;
        }
        let feed = self.feed_for(plan.up, plan.kind);
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        let before = down.feed;
        down.follow(now, feed);
        if let Some(feed) = self.feeds.get_mut(before) {
            feed.downs.retain(|other| *other != place);
        }
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.downs.push(place);
        }
        self.drop_feed_if_unused(before);
    }

    /// Blank frames for a moment, then the end.
    fn close_down(&mut self, now: Instant, id: DownTrackId, sink: &mut impl Sink) {
        let Some(place) = self.down_of.get(&id).copied() else {
            return;
        };
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        if down.is_closing {
            return;
        }
        let transport = down.transport;
        if down.has_sent() && down.fill(now, CLOSING_FOR, true) {
            self.serve(now, place, sink);
            return;
        }
        let sent = down.has_sent();
        self.end_down(place);
        self.tell(transport, Event::DownClosed { down: id, sent });
    }

    /// Removes a down track at once.
    pub(super) fn end_down(&mut self, place: u32) {
        let Some(mut down) = self.downs.remove(place) else {
            return;
        };
        let wake = Wake::Down(place);
        self.timers.set(&mut down.armed, wake, None);
        self.down_of.remove(&down.plan.down);
        if let Some(peer) = self.peers.get_mut(down.transport) {
            peer.downs.retain(|other| *other != place);
        }
        if let Some(feed) = self.feeds.get_mut(down.feed) {
            feed.downs.retain(|other| *other != place);
        }
        self.drop_feed_if_unused(down.feed);
    }

    pub(super) fn set_feed_muted(
        &mut self,
        now: Instant,
        up: UpTrackId,
        muted: bool,
        sink: &mut impl Sink,
    ) {
        let Some(feed) = self.feed_mut(up) else {
            return;
        };
        if feed.is_muted == muted {
            return;
        }
        feed.is_muted = muted;
        let downs = feed.downs.clone();
        if !muted
            && let Some(track) = self
                .up_of
                .get(&up)
                .and_then(|place| self.ups.get_mut(*place))
        {
            for layer in &mut track.layers {
                layer.throttle.handle_unmute();
            }
        }
        for place in downs {
            if let Some(down) = self.downs.get_mut(place) {
                if muted {
                    if down.has_sent() && down.is_open() {
                        down.fill(now, MUTED_FOR, false);
                    }
                } else {
                    down.unmute(now);
                }
            }
            self.serve(now, place, sink);
        }
    }
}
