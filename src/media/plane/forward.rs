//! Media out: packets of a feed to its down tracks, retransmissions, and frames made here.
//!
//! What a down track decided is written, numbered and sealed here, straight into the driver's batch. All packets of a
//! receive batch for one down track leave in a row, so that the driver can send them as one.

use super::Plane;
use crate::ids::{PayloadType, Ssrc};
use crate::media::cache::Packet;
use crate::media::codec::{blank, red::Red};
use crate::media::downtrack::{DownTrack, Verdict, Withheld};
use crate::media::feed::{Feed, Stream};
use crate::media::history::{Origin, Sent};
use crate::media::io::{Path, Sink};
use crate::media::link::LinkMessage;
use crate::media::srtp::Sealer;
use crate::media::stats::{Counters, Drop};
use crate::media::write::{Draft, Leaving, OVERHEAD};
use crate::plan::{Codec, Event, Extensions};
use std::time::Instant;

/// Packets of an encoding that came before the key frame they follow and are caught up with.
const MAX_CATCH_UP: u64 = 300;
/// Lost RED packets that are made up from one that came.
const MAX_RECOVERED: usize = 3;
/// Longest frame that is made here: 160 bytes of G.711, and a trailer.
const MAX_MADE: usize = 512;

/// The way out of one down track, for the packets of one batch.
struct Outway<'a, S> {
    path: Path,
    sealer: &'a Sealer,
    send_time: u32,
    transport_seq: &'a mut u16,
    counters: &'a mut Counters,
    sink: &'a mut S,
}

impl<S: Sink> Outway<'_, S> {
    /// Writes, seals and hands over a packet; `false`: it does not fit.
    fn send(&mut self, extensions: &Extensions, draft: &Draft<'_>, index: u64) -> bool {
        let leaving = Leaving {
            send_time: self.send_time,
            transport_seq: *self.transport_seq,
        };
        let room = draft.payload.len() + draft.descriptor.len() + draft.capture.len() + OVERHEAD;
        let mut sealed = 0;
        let sealer = self.sealer;
        self.sink.datagram(&self.path, room, |buffer| {
            sealed = draft
                .write(buffer, extensions, leaving)
                .map_or(0, |(header, len)| {
                    sealer.seal_rtp(buffer, header, len, index)
                });
            sealed
        });
        if sealed == 0 {
            return false;
        }
        *self.transport_seq = self.transport_seq.wrapping_add(1);
        self.counters.packets_out += 1;
        self.counters.bytes_out += sealed as u64;
        true
    }

    fn send_packet(&mut self, down: &mut DownTrack, packet: &Packet<'_>, verdict: &Verdict) {
        let mut payload = packet.payload();
        if verdict.unwrap_red {
            match Red::parse(payload) {
                Ok(red) => payload = red.primary().data,
                Err(_) => return self.counters.drop(Drop::Malformed),
            }
        }
        self.send_payload(down, packet, verdict, payload);
    }

    fn send_payload(
        &mut self,
        down: &mut DownTrack,
        packet: &Packet<'_>,
        verdict: &Verdict,
        payload: &[u8],
    ) {
        let mut rewritten = None;
        let draft = Draft {
            pt: verdict.pt,
            marker: verdict.marker,
            seq: verdict.out as u16,
            timestamp: verdict.timestamp,
            ssrc: down.plan.ssrc,
            mid: down.mid(),
            playout_delay: down.playout_delay(),
            descriptor: down.ladder.descriptor(packet, &mut rewritten),
            capture: packet.capture(),
            audio_level: packet.facts.audio_level,
            osn: None,
            vp8: packet.facts.vp8.map(|was| was.len).zip(verdict.vp8),
            payload,
            padding: 0,
        };
        let len = payload.len();
        if self.send(&down.plan.extensions, &draft, verdict.out) {
            down.count(len);
        }
    }

    /// Offers one packet to the down track and sends what comes of it. `true`: an encoding began with it.
    fn offer(
        &mut self,
        now: Instant,
        feed: &Feed,
        down: &mut DownTrack,
        packet: &Packet<'_>,
    ) -> bool {
        if packet.facts.format.codec == Codec::Red {
            self.recover(now, feed, down, packet);
        }
        match down.offer(now, feed, packet) {
            Ok(verdict) => {
                self.send_packet(down, packet, &verdict);
                verdict.is_beginning
            }
            Err(withheld) => {
                match withheld {
                    Withheld::Gate | Withheld::Skipped => {}
                    Withheld::Late => self.counters.drop(Drop::Late),
                    Withheld::NoFormat => self.counters.drop(Drop::NoFormat),
                }
                false
            }
        }
    }

    /// Before a RED packet for somebody who does not take RED: the packets that were lost before it, from its
    /// redundancy (livekit 1.13.5 pkg/sfu/redprimaryreceiver.go).
    fn recover(&mut self, now: Instant, feed: &Feed, down: &mut DownTrack, packet: &Packet<'_>) {
        let missing = down.missing_before(packet.facts);
        if missing == 0 || missing > MAX_RECOVERED as u64 || !down.unwraps_red(packet.facts.format)
        {
            return;
        }
        let Ok(red) = Red::parse(packet.payload()) else {
            return;
        };
        let redundant = red.blocks().count() - 1;
        for back in (1..=missing as usize).rev() {
            if back > redundant {
                continue;
            }
            let Some(block) = red.blocks().nth(redundant - back) else {
                continue;
            };
            if block.data.is_empty() {
                continue;
            }
            let mut facts = *packet.facts;
            facts.index -= back as u64;
            facts.timestamp = facts
                .timestamp
                .wrapping_sub(u32::from(block.timestamp_offset));
            facts.marker = false;
            let made_up = Packet {
                facts: &facts,
                body: packet.body,
            };
            if let Ok(verdict) = down.offer(now, feed, &made_up) {
                self.send_payload(down, &made_up, &verdict, block.data);
            }
        }
    }
}

impl Plane {
    pub(super) fn forward_pending(&mut self, now: Instant, sink: &mut impl Sink) {
        let mut pending = std::mem::take(&mut self.pending);
        for place in pending.drain(..) {
            self.forward(now, place, sink);
        }
        // Keeps its memory.
        self.pending = pending;
    }

    /// Sends what came for one feed to everybody who gets it.
    pub(super) fn forward(&mut self, now: Instant, place: u32, sink: &mut impl Sink) {
        let send_time = self.send_time(now);
        let Some(feed) = self.feeds.get_mut(place) else {
            return;
        };
        let new = feed.take_new_clocks();
        for (spatial, map) in feed.clocks().filter(|(spatial, _)| new & 1 << spatial != 0) {
            let up = feed.up;
            for &worker in &feed.mirrors {
                let message = LinkMessage::Clock { up, spatial, map };
                self.links.push_back((worker, message));
            }
        }
        if feed.batch.is_empty() {
            return;
        }
        for &worker in &feed.mirrors {
            let batch = feed.copy_batch();
            self.links.push_back((worker, LinkMessage::Packets(batch)));
        }
        let mut batch = std::mem::take(&mut feed.batch);
        let mut serve = std::mem::take(&mut self.to_serve);
        let Some(feed) = self.feeds.get(place) else {
            return;
        };
        for &down_place in &feed.downs {
            let Some(down) = self.downs.get_mut(down_place) else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(down.transport) else {
                continue;
            };
            let Some(path) = peer.transport.path().copied() else {
                down.cut(now);
                continue;
            };
            let Some(sealer) = peer.transport.sealer() else {
                continue;
            };
            down.review(now, feed);
            let had_sent = down.has_sent();
            let mut outway = Outway {
                path,
                sealer,
                send_time,
                transport_seq: &mut peer.transport_seq,
                counters: &mut self.counters,
                sink,
            };
            for &(spatial, index) in &batch {
                let Some(packet) = feed.packet(spatial, index) else {
                    continue;
                };
                if outway.offer(now, feed, down, &packet) {
                    // What came before the key frame it follows, by reordering or repair.
                    let newest = feed.stream(spatial).map_or(index, Stream::newest_index);
                    for next in index + 1..=newest.min(index + MAX_CATCH_UP) {
                        if let Some(packet) = feed.packet(spatial, next) {
                            outway.offer(now, feed, down, &packet);
                        }
                    }
                }
            }
            if !had_sent && down.has_sent() {
                let event = Event::DownStarted {
                    down: down.plan.down,
                };
                self.events.push_back((peer.id, event));
                serve.push(down_place);
            } else if down.key_frame_timeout(feed).is_some_and(|at| at <= now)
                || down.begins_to_report(now, feed)
            {
                serve.push(down_place);
            }
        }
        batch.clear();
        if let Some(feed) = self.feeds.get_mut(place) {
            feed.batch = batch;
        }
        for down in serve.drain(..) {
            self.serve(now, down, sink);
        }
        self.to_serve = serve;
    }

    /// Sends again what a subscriber misses, in its retransmission stream.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        place: u32,
        lost: impl Iterator<Item = u16>,
        sink: &mut impl Sink,
    ) {
        let send_time = self.send_time(now);
        let Some(down) = self.downs.get_mut(place) else {
            return;
        };
        let (Some(rtx_ssrc), Some(peer)) = (down.plan.rtx_ssrc, self.peers.get_mut(down.transport))
        else {
            return;
        };
        let (Some(path), Some(feed)) = (peer.transport.path().copied(), self.feeds.get(down.feed))
        else {
            return;
        };
        let Some(sealer) = peer.transport.sealer() else {
            return;
        };
        let mut outway = Outway {
            path,
            sealer,
            send_time,
            transport_seq: &mut peer.transport_seq,
            counters: &mut self.counters,
            sink,
        };
        for seq in lost {
            let Some(sent) = down.resend(now, seq) else {
                continue;
            };
            let Some(pt) = sent.rtx else {
                continue;
            };
            outway.resend(feed, down, &sent, pt, rtx_ssrc);
        }
    }

    /// Sends one frame of silence or black, or the padding that announces a track. `false`: there is none for this codec,
    /// or nowhere to send it.
    pub(super) fn send_made(&mut self, now: Instant, place: u32, sink: &mut impl Sink) -> bool {
        let send_time = self.send_time(now);
        let Some(down) = self.downs.get_mut(place) else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(down.transport) else {
            return false;
        };
        let (Some(path), Some((codec, pt, _))) = (peer.transport.path().copied(), down.codec())
        else {
            return false;
        };
        let Some(sealer) = peer.transport.sealer() else {
            return false;
        };
        let Some(made) = down.make(now) else {
            return false;
        };
        let mut payload = [0; MAX_MADE];
        let len = if made.padding > 0 {
            Some(0)
        } else {
            make_payload(codec, made.vp8.as_ref(), down, &mut payload)
        };
        let Some(len) = len else {
            return false;
        };
        let mut outway = Outway {
            path,
            sealer,
            send_time,
            transport_seq: &mut peer.transport_seq,
            counters: &mut self.counters,
            sink,
        };
        let draft = Draft {
            pt,
            marker: made.marker,
            seq: made.out as u16,
            timestamp: made.timestamp,
            ssrc: down.plan.ssrc,
            mid: down.mid(),
            playout_delay: down.playout_delay(),
            descriptor: &[],
            capture: &[],
            audio_level: None,
            osn: None,
            vp8: None,
            payload: &payload[..len],
            padding: made.padding,
        };
        if outway.send(&down.plan.extensions, &draft, made.out) {
            down.count(len);
        }
        true
    }
}

impl<S: Sink> Outway<'_, S> {
    fn resend(
        &mut self,
        feed: &Feed,
        down: &mut DownTrack,
        sent: &Sent,
        pt: PayloadType,
        ssrc: Ssrc,
    ) {
        let mut made = [0; MAX_MADE];
        let mut rewritten = None;
        let (payload, descriptor, capture, vp8);
        match sent.origin {
            Origin::Cached { index, spatial } => {
                let Some(packet) = feed.packet(spatial, index) else {
                    return;
                };
                payload = packet.payload();
                descriptor = down.ladder.descriptor(&packet, &mut rewritten);
                capture = packet.capture();
                vp8 = packet.facts.vp8.map(|was| was.len).zip(sent.vp8);
            }
            Origin::Made => {
                let Some((codec, ..)) = down.codec() else {
                    return;
                };
                let Some(len) = make_payload(codec, sent.vp8.as_ref(), down, &mut made) else {
                    return;
                };
                payload = &made[..len];
                descriptor = &[];
                capture = &[];
                vp8 = None;
            }
        }
        let index = down.rtx_next;
        down.rtx_next += 1;
        let draft = Draft {
            pt,
            marker: sent.marker,
            seq: index as u16,
            timestamp: sent.timestamp,
            ssrc,
            mid: down.mid(),
            playout_delay: down.playout_delay(),
            descriptor,
            capture,
            audio_level: None,
            osn: Some(sent.out as u16),
            vp8,
            payload,
            padding: 0,
        };
        self.send(&down.plan.extensions, &draft, index);
    }
}

fn make_payload(
    codec: Codec,
    vp8: Option<&crate::media::codec::vp8::Vp8Descriptor>,
    down: &DownTrack,
    out: &mut [u8],
) -> Option<usize> {
    let mut head = [0; crate::media::codec::vp8::MAX_LEN];
    let head_len = match (codec, vp8) {
        (Codec::Vp8, Some(descriptor)) => descriptor.write(&mut head)?,
        (Codec::Vp8, None) => return None,
        (Codec::Red, _) => {
            head[0] = down.opus_pt()?.0;
            1
        }
        _ => 0,
    };
    blank::write(codec, &head[..head_len], &down.plan.sif_trailer, out)
}
