//! What is not media: RTCP in and out, events of transports, timers.

use super::peer::REPORT;
use super::{Plane, READ_PER_TURN, SETTLED_PER_TURN};
use crate::ids::{Ssrc, UpTrackId};
use crate::media::io::Sink;
use crate::media::link::LinkMessage;
use crate::media::srtp::RTCP_OVERHEAD;
use crate::media::stats::Drop;
use crate::media::timers::Wake;
use crate::media::transport::TransportEvent;
use crate::plan::{Channel, Event, Kind};
use crate::rtp::rtcp::{self, Feedback, ReportBlock, SenderInfo, Writer};
use std::time::{Duration, Instant};

/// What could not be done now is not tried again sooner: a turn ends.
const SHORTEST: Duration = Duration::from_millis(1);
/// Bytes of one RTCP datagram of ours.
const MAX_RTCP: usize = 1_200;

impl Plane {
    /// Takes a decrypted compound packet.
    pub(super) fn handle_rtcp(
        &mut self,
        now: Instant,
        place: u32,
        compound: &[u8],
        sink: &mut impl Sink,
    ) {
        for packet in rtcp::parse(compound) {
            let Ok(packet) = packet else {
                self.counters.drop(Drop::Malformed);
                continue;
            };
            match packet {
                Feedback::SenderReport {
                    sender,
                    info,
                    blocks,
                } => {
                    self.handle_sender_report(now, place, sender, &info);
                    for block in blocks {
                        self.handle_report_block(now, place, &block);
                    }
                }
                Feedback::ReceiverReport { blocks, .. } => {
                    for block in blocks {
                        self.handle_report_block(now, place, &block);
                    }
                }
                Feedback::Nack { media, lost, .. } => {
                    if let Some(down) = self.down_by_ssrc(place, media) {
                        self.resend(now, down, lost, sink);
                    }
                }
                Feedback::Pli { media, .. } => self.handle_key_frame_wish(place, media),
                Feedback::Fir { entries, .. } => {
                    for (media, _) in entries {
                        self.handle_key_frame_wish(place, media);
                    }
                }
                Feedback::Remb { bitrate_bps, .. } => self.handle_estimate(now, place, bitrate_bps),
                // Loss based feedback is enough for now; ends of sources are told by signalling.
                Feedback::Bye(_)
                | Feedback::Other { .. }
                | Feedback::Sdes(_)
                | Feedback::TransportCc(_)
                | Feedback::Xr { .. } => {}
            }
        }
    }

    fn down_by_ssrc(&self, place: u32, ssrc: Ssrc) -> Option<u32> {
        self.peers.get(place)?.downs.iter().copied().find(|down| {
            self.downs
                .get(*down)
                .is_some_and(|down| down.plan.ssrc == ssrc)
        })
    }

    fn handle_sender_report(&mut self, now: Instant, place: u32, sender: Ssrc, info: &SenderInfo) {
        let Some(peer) = self.peers.get(place) else {
            return;
        };
        let Some(route) = peer.routes.find(sender).filter(|route| !route.is_rtx) else {
            return;
        };
        let Some(up) = peer
            .ups
            .get(usize::from(route.track))
            .and_then(|up| self.ups.get_mut(*up))
        else {
            return;
        };
        let layer = usize::from(route.layer);
        let Some(map) = up.handle_report(now, layer, info.ntp, info.rtp_timestamp) else {
            return;
        };
        let Some(spatial) = up.plan.layers.get(layer).map(|layer| layer.spatial) else {
            return;
        };
        let place = up.feed;
        if let Some(feed) = self.feeds.get_mut(place) {
            feed.set_clock(spatial, map);
            if feed.announce_clock(spatial) {
                self.pending.push(place);
            }
        }
    }

    fn handle_report_block(&mut self, now: Instant, place: u32, block: &ReportBlock) {
        if let Some(down) = self.down_by_ssrc(place, Ssrc(block.ssrc))
            && let Some(down) = self.downs.get_mut(down)
        {
            down.handle_report(now, block);
        }
    }

    fn handle_key_frame_wish(&mut self, place: u32, media: Ssrc) {
        let Some(down) = self
            .down_by_ssrc(place, media)
            .and_then(|down| self.downs.get(down))
        else {
            return;
        };
        let Some(feed) = self.feeds.get(down.feed) else {
            return;
        };
        if let Some(current) = down
            .current()
            .filter(|_| down.is_open() && feed.kind == Kind::Video)
        {
            let up = feed.up;
            self.request_key_frame(up, current);
        }
    }

    pub(super) fn handle_estimate(&mut self, now: Instant, place: u32, bitrate: u64) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let ceiling = peer.ceiling.filter(|most| *most <= bitrate);
        let bitrate = ceiling.unwrap_or(bitrate);
        peer.remb = Some(bitrate);
        let mut videos = Vec::new();
        let mut total = 0;
        for &down_place in &peer.downs {
            let Some(down) = self.downs.get(down_place) else {
                continue;
            };
            let Some(feed) = self.feeds.get(down.feed) else {
                continue;
            };
            let Some(current) = down
                .current_layer()
                .filter(|_| down.is_open() && feed.kind == Kind::Video)
            else {
                continue;
            };
            let rates = feed.rates();
            let rate = rates[usize::from(current)];
            total += rate;
            videos.push((down_place, current, rates, rate));
        }
        if total == 0 {
            return;
        }
        for (down, current, rates, rate) in videos {
            // Each gets the part of the estimate that it has of what is sent.
            let share = (u128::from(bitrate) * u128::from(rate) / u128::from(total)) as u64;
            if let Some(down) = self.downs.get_mut(down) {
                if ceiling.is_some() {
                    down.limit.handle_ceiling(now, share, &rates, current);
                } else {
                    down.limit.handle_estimate(now, share, &rates, current);
                }
            }
        }
    }

    /// Asks the publisher of a track for a key frame, here or by its worker.
    pub(super) fn request_key_frame(&mut self, up: UpTrackId, spatial: u8) {
        if let Some(place) = self.up_of.get(&up).copied()
            && let Some(track) = self.ups.get_mut(place)
        {
            if let Some(layer) = track.layer_of(spatial)
                && let Some(layer) = track.layers.get_mut(layer)
            {
                layer.throttle.request();
            }
            let transport = track.transport;
            self.touch(transport);
            return;
        }
        let now = self.now;
        let owner = self
            .feed_mut(up)
            .and_then(|feed| feed.ask_owner(now, spatial));
        if let Some(worker) = owner {
            self.links
                .push_back((worker, LinkMessage::KeyFrame { up, spatial }));
        }
    }

    /// Does what a down track wants besides packets, and sets its timer.
    pub(super) fn serve(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        self.fill(now, place, sink);
        self.report_down(now, place, sink);
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        let Some(feed) = self.feeds.get(down.feed) else {
            return;
        };
        // What is sent to one that cannot be reached waits for it, and wakes nobody: a connection that comes back serves
        // its down tracks.
        let is_connected = self
            .peers
            .get(down.transport)
            .is_some_and(|peer| peer.transport.is_connected());
        let mut wish = None;
        if is_connected {
            down.review(now, feed);
            down.greet(now);
            wish = down.poll_key_frame(now, feed);
        }
        let timeouts = [
            down.filler.map(|filler| filler.next_timeout()),
            down.report_at.filter(|_| is_connected),
            down.key_frame_timeout(feed).filter(|_| is_connected),
        ];
        let at = timeouts.into_iter().flatten().min();
        let at = at.map(|at| at.max(now + SHORTEST));
        self.timers.set(&mut down.armed, Wake::Down(place), at);
        let up = feed.up;
        if let Some(spatial) = wish {
            self.request_key_frame(up, spatial);
        }
    }

    fn fill(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        let Some(filler) = &mut down.filler else {
            return;
        };
        let is_due = filler.poll(now);
        let is_over = filler.is_over(now);
        if is_due
            && !self.send_made(now, place, sink)
            && let Some(down) = self.downs.get_mut(place)
        {
            // There is no such frame; what is left is the wait.
            down.skip_filler(now);
        }
        if !is_over {
            return;
        }
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        down.filler = None;
        if down.is_closing {
            let (id, transport) = (down.plan.down, down.transport);
            self.end_down(place);
            self.tell(
                transport,
                Event::DownClosed {
                    down: id,
                    sent: true,
                },
            );
        }
    }

    /// SR and SDES of a down track, while it sends.
    fn report_down(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        let ntp = self.ntp(now);
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        if !down.wants_report(now) {
            return;
        }
        let Some(feed) = self.feeds.get(down.feed) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(down.transport) else {
            return;
        };
        let Some(path) = peer.transport.path().copied() else {
            return;
        };
        let Some(sealer) = peer.transport.sealer() else {
            return;
        };
        let Some(info) = down.report(now, ntp, feed) else {
            return;
        };
        sink.datagram(&path, MAX_RTCP + RTCP_OVERHEAD, |buffer| {
            let room = buffer.len() - RTCP_OVERHEAD;
            let mut writer = Writer::new(&mut buffer[..room]);
            writer.sender_report(down.plan.ssrc, info, &[]);
            writer.sdes(
                down.plan.ssrc,
                &down.plan.cname,
                Some(down.plan.mid.as_str()),
            );
            let len = writer.len();
            sealer.seal_rtcp(buffer, len)
        });
    }

    /// Events, output and timers of the transports that were touched.
    pub(super) fn settle(&mut self, now: Instant, sink: &mut impl Sink) {
        for _ in 0..SETTLED_PER_TURN {
            let Some(place) = self.touched.pop_front() else {
                return;
            };
            if let Some(peer) = self.peers.get_mut(place) {
                peer.is_touched = false;
            }
            self.settle_one(now, place, sink);
        }
    }

    fn settle_one(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        while let Some(peer) = self.peers.get_mut(place)
            && peer.read < READ_PER_TURN
            && let Some(event) = peer.transport.poll_event()
        {
            if matches!(event, TransportEvent::Data { .. }) {
                if peer.read == 0 {
                    self.readers.push(place);
                }
                peer.read += 1;
            }
            self.handle_event(now, place, event, sink);
        }
        self.count_faults(place);
        self.give_feedback(now, place, sink);
        self.tell_quality(now, place);
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let mut learning = Learning {
            sink,
            paths: Vec::new(),
        };
        peer.transport.flush(now, &mut learning);
        let paths = learning.paths;
        let timeouts = [
            peer.transport.next_timeout(),
            peer.twcc
                .next_timeout()
                .filter(|_| peer.transport.is_connected()),
            peer.report_at,
            peer.nack_at,
            peer.key_frame_at,
            peer.quality_at,
        ];
        let at = timeouts.into_iter().flatten().min();
        let at = at.map(|at| at.max(now + SHORTEST));
        self.timers.set(&mut peer.armed, Wake::Transport(place), at);
        for path in paths {
            if !self.by_path.contains_key(&path) {
                self.learn_path(place, path);
            }
        }
    }

    /// Counts what a peer did wrong in what its transport alone understands.
    pub(super) fn count_faults(&mut self, place: u32) {
        if let Some(peer) = self.peers.get_mut(place) {
            for (cause, count) in peer.transport.take_faults() {
                self.counters.drop_many(cause, count);
            }
        }
    }

    fn handle_event(
        &mut self,
        now: Instant,
        place: u32,
        event: TransportEvent,
        sink: &mut impl Sink,
    ) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let id = peer.id;
        let event = match event {
            TransportEvent::Behind(behind) => Event::Behind { id, behind },
            TransportEvent::ChannelOpen(channel) => {
                if channel != Channel::Reliable || !peer.transport.sends_data() {
                    return;
                }
                Event::ChannelOpen { id }
            }
            TransportEvent::ChannelStuck => Event::ChannelStuck { id },
            TransportEvent::Closed => Event::Closed { id },
            TransportEvent::Connected { proto, remote } => {
                self.resume_downs(now, place, sink);
                self.learn_selected(place);
                Event::Connected { id, proto, remote }
            }
            TransportEvent::Data { channel, payload } => Event::Data {
                id,
                channel,
                payload,
            },
            TransportEvent::Disconnected => Event::Disconnected { id },
            TransportEvent::PathChanged { moved } => {
                self.learn_selected(place);
                if moved {
                    self.resume_downs(now, place, sink);
                }
                return;
            }
        };
        self.events.push_back((id, event));
    }

    fn learn_selected(&mut self, place: u32) {
        let peer = self.peers.get_mut(place);
        if let Some(path) = peer.and_then(|peer| peer.transport.path().copied()) {
            self.learn_path(place, path);
        }
    }

    /// What was sent lately did not arrive: everything begins anew, with a key frame.
    fn resume_downs(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        for down in peer.downs.clone() {
            if let Some(down) = self.downs.get_mut(down) {
                down.cut(now);
            }
            self.serve(now, down, sink);
        }
    }

    /// RTCP towards a publisher: key frame requests, NACKs, transport-wide feedback, receiver reports.
    fn give_feedback(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(path) = peer.transport.path().copied() else {
            // Nothing is asked of one that cannot be reached; media that comes sets these again.
            (peer.report_at, peer.nack_at, peer.key_frame_at) = (None, None, None);
            return;
        };
        let (reports, nacks) = (is_due(peer.report_at), is_due(peer.nack_at));
        let mut blocks: [ReportBlock; rtcp::MAX_BLOCKS] = Default::default();
        let mut block_count = 0;
        let mut buffer = [0; MAX_RTCP];
        let mut writer = Writer::new(&mut buffer);
        let own = peer.local_ssrc;
        let mut key_frame_at = None;
        let mut nack_at = None;
        for &up in &peer.ups {
            let Some(up) = self.ups.get_mut(up) else {
                continue;
            };
            for (plan, layer) in up.plan.layers.iter().zip(&mut up.layers) {
                let Some(ssrc) = layer.ssrc else {
                    continue;
                };
                if up.plan.kind == Kind::Video {
                    if layer.throttle.poll(now, plan.spatial) {
                        writer.pli(own, ssrc);
                    }
                    key_frame_at = earlier(key_frame_at, layer.throttle.next(plan.spatial));
                }
                if nacks {
                    self.lost.clear();
                    layer.nack.poll(now, &mut self.lost);
                    writer.nack(own, ssrc, &self.lost);
                }
                nack_at = earlier(nack_at, layer.nack.next_timeout());
                if reports
                    && block_count < blocks.len()
                    && let Some(reception) = layer.reception.as_mut()
                    && reception.is_active()
                    && let Some(block) = reception.report(now)
                {
                    blocks[block_count] = block;
                    block_count += 1;
                }
            }
        }
        peer.key_frame_at = key_frame_at;
        peer.nack_at = nack_at;
        if reports {
            peer.report_at = None;
            if block_count > 0 {
                writer.receiver_report(own, &blocks[..block_count]);
                peer.report_at = Some(now + REPORT);
            }
        }
        loop {
            while writer.append(|out| peer.twcc.poll(now, out).unwrap_or(0)) {}
            let len = writer.len();
            if len > 0
                && let Some(sealer) = peer.transport.sealer()
            {
                sink.datagram(&path, len + RTCP_OVERHEAD, |out| {
                    out[..len].copy_from_slice(&buffer[..len]);
                    sealer.seal_rtcp(out, len)
                });
            }
            // What found no room beside the rest goes by itself.
            if !is_due(peer.twcc.next_timeout()) {
                return;
            }
            writer = Writer::new(&mut buffer);
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Notes the paths on which a transport sends STUN: answers come back on them.
struct Learning<'a, S> {
    sink: &'a mut S,
    paths: Vec<crate::media::io::Path>,
}

impl<S: Sink> Sink for Learning<'_, S> {
    fn datagram(
        &mut self,
        path: &crate::media::io::Path,
        max_len: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let paths = &mut self.paths;
        self.sink.datagram(path, max_len, |buffer| {
            let len = fill(buffer);
            if len > 0 && buffer[0] < 4 && !paths.contains(path) {
                paths.push(*path);
            }
            len
        });
    }
}
