//! Datagrams in: whose they are, and what is read of media packets.

use super::Plane;
use super::peer::{MAX_PATHS, REPORT};
use super::stun::{Addressee, MAPPING, addressee, mapping};
use crate::media::cache::Stored;
use crate::media::dtls::is_whole;
use crate::media::io::{Path, Sink, Socket};
use crate::media::route::{Hints, Routes};
use crate::media::srtp::SrtpFault;
use crate::media::stats::Drop;
use crate::media::timers::Wake;
use crate::plan::Event;
use crate::rtp::Found;
use crate::rtp::header::{Header, is_rtcp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

impl Plane {
    pub(super) fn receive(
        &mut self,
        now: Instant,
        path: &Path,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        self.counters.bytes_in += datagram.len() as u64;
        // RFC 7983 §7.
        let outcome = match datagram.first() {
            Some(0..=3) => self.receive_stun(now, path, datagram, sink),
            Some(20..=63) => self.receive_dtls(now, path, datagram),
            Some(128..=191) if is_rtcp(datagram) => self.receive_rtcp(now, path, datagram, sink),
            Some(128..=191) => self.receive_rtp(now, path, datagram),
            _ => Err(Drop::Foreign),
        };
        if let Err(cause) = outcome {
            self.counters.drop(cause);
        }
    }

    fn find_path(&mut self, path: &Path) -> Result<u32, Drop> {
        if let Some((last, place)) = &self.last_path
            && last == path
        {
            return Ok(*place);
        }
        let place = *self.by_path.get(path).ok_or(Drop::UnknownPath)?;
        self.last_path = Some((*path, place));
        Ok(place)
    }

    fn receive_stun(
        &mut self,
        now: Instant,
        path: &Path,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Drop> {
        let place = match addressee(datagram).ok_or(Drop::UnknownStun)? {
            Addressee::Server if matches!(path.socket, Socket::Udp(_)) => {
                let answer = |out: &mut [u8]| mapping(datagram, path.remote, out);
                sink.datagram(path, MAPPING, answer);
                return Ok(());
            }
            Addressee::Server => None,
            Addressee::Ufrag(ufrag) => self.by_ufrag.get(ufrag).copied(),
            Addressee::Path => self.by_path.get(path).copied().or_else(|| {
                // An answer to a check of ours, which left from wherever the system chose.
                let local = match path.remote.ip() {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                self.by_path.get(&Path { local, ..*path }).copied()
            }),
        }
        .ok_or(Drop::UnknownStun)?;
        let peer = self.peers.get_mut(place).ok_or(Drop::UnknownStun)?;
        if !peer.transport.handle_stun(now, path, datagram) {
            return Err(Drop::UnknownStun);
        }
        self.learn_path(place, *path);
        self.touch(place);
        Ok(())
    }

    /// From now on this path leads to that transport.
    pub(super) fn learn_path(&mut self, place: u32, path: Path) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        if peer.paths.contains(&path) && self.by_path.get(&path) == Some(&place) {
            return;
        }
        peer.paths.retain(|known| *known != path);
        if peer.paths.len() >= MAX_PATHS {
            let selected = peer.transport.path().copied();
            let oldest = usize::from(peer.paths.first() == selected.as_ref());
            let gone = peer.paths.remove(oldest);
            if self.by_path.get(&gone) == Some(&place) {
                self.by_path.remove(&gone);
            }
        }
        peer.paths.push(path);
        self.by_path.insert(path, place);
        self.last_path = None;
    }

    fn receive_dtls(&mut self, now: Instant, path: &Path, datagram: &[u8]) -> Result<(), Drop> {
        let place = self.find_path(path)?;
        let peer = self.peers.get_mut(place).ok_or(Drop::UnknownPath)?;
        peer.transport.handle_dtls(now, datagram);
        self.touch(place);
        if is_whole(datagram) {
            Ok(())
        } else {
            Err(Drop::Malformed)
        }
    }

    fn receive_rtcp(
        &mut self,
        now: Instant,
        path: &Path,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<(), Drop> {
        let place = self.find_path(path)?;
        let peer = self.peers.get_mut(place).ok_or(Drop::UnknownPath)?;
        let len = peer.transport.open_rtcp(now, datagram).map_err(fault)?;
        self.handle_rtcp(now, place, &datagram[..len], sink);
        Ok(())
    }

    fn receive_rtp(&mut self, now: Instant, path: &Path, datagram: &mut [u8]) -> Result<(), Drop> {
        let header = Header::parse(datagram).map_err(|_| Drop::Malformed)?;
        let place = self.find_path(path)?;
        let peer = self.peers.get_mut(place).ok_or(Drop::UnknownPath)?;
        let len = peer
            .transport
            .open_rtp(now, datagram, header.payload_offset)
            .map_err(fault)?;
        let packet = &datagram[..len];
        self.counters.packets_in += 1;
        let found = Found::extract(packet, &header, &peer.plan.extensions);
        if let Some(seq) = found.transport_cc {
            peer.twcc
                .handle_packet(now, header.ssrc, seq, header.marker);
            if let Some(at) = peer.twcc.next_timeout() {
                self.timers.arm(&mut peer.armed, Wake::Transport(place), at);
            }
        }
        let route = match peer.routes.find(header.ssrc) {
            Some(route) => route,
            None => {
                let hints = Hints {
                    mid: found.mid.map(|span| span.of(packet)),
                    rid: found.rid.map(|span| span.of(packet)),
                    repaired_rid: found.repaired_rid.map(|span| span.of(packet)),
                };
                let route =
                    Routes::resolve(&peer.plan, header.pt, hints).ok_or(Drop::UnknownSource)?;
                peer.routes.learn(header.ssrc, route);
                route
            }
        };
        let up_place = *peer
            .ups
            .get(usize::from(route.track))
            .ok_or(Drop::UnknownSource)?;
        let up = self.ups.get_mut(up_place).ok_or(Drop::UnknownSource)?;
        // One source may carry both, when a plan named it for the media alone.
        let is_rtx = route.is_rtx
            || up
                .plan
                .formats
                .iter()
                .any(|format| format.rtx == Some(header.pt));
        let accepted = up.handle(
            now,
            usize::from(route.layer),
            is_rtx,
            packet,
            &header,
            &found,
        )?;
        let (spatial, format) = (accepted.facts.spatial, accepted.facts.format);
        let feed_place = up.feed;
        let (id, is_first, level) = (up.plan.up, accepted.is_first, accepted.level);
        let feed = self.feeds.get_mut(feed_place).ok_or(Drop::UnknownSource)?;
        let was_empty = feed.batch.is_empty();
        let stored = feed.insert(now, &accepted.facts, &accepted.parts);
        if stored == Stored::New && was_empty {
            self.pending.push(feed_place);
        }
        if peer.report_at.is_none() {
            peer.report_at = Some(now + REPORT);
            self.timers
                .arm(&mut peer.armed, Wake::Transport(place), now + REPORT);
        }
        if let Some(at) = up
            .layers
            .get(usize::from(route.layer))
            .and_then(|layer| layer.nack.next_timeout())
            && peer.nack_at.is_none_or(|set| at < set)
        {
            peer.nack_at = Some(at);
            self.timers.arm(&mut peer.armed, Wake::Transport(place), at);
        }
        if let Some(level) = level {
            self.tell(place, Event::AudioLevel { up: id, level });
        }
        if is_first {
            self.tell(
                place,
                Event::LayerSeen {
                    up: id,
                    spatial,
                    ssrc: header.ssrc,
                    format,
                },
            );
        }
        match stored {
            Stored::Duplicate => Err(Drop::Duplicate),
            Stored::New => Ok(()),
            Stored::Refused => Err(Drop::Late),
        }
    }
}

fn fault(fault: SrtpFault) -> Drop {
    match fault {
        SrtpFault::Short => Drop::Malformed,
        _ => Drop::Forged,
    }
}
