//! One published track on the worker of its publisher: what came, what is missing, and what its publisher is to be told.
//!
//! Owned by the plane. A packet that was opened is read here once; the plane puts it into the track's feed. Everything
//! towards the publisher (NACK, receiver reports, key frame requests) is decided here and written by the plane.

use super::audio::LevelMeter;
use super::cache::Facts;
use super::clock::ClockMap;
use super::codec::dependency::Tracker;
use super::codec::vp8::Vp8Descriptor;
use super::codec::{self, FrameFacts};
use super::keyframe::KeyFrameThrottle;
use super::nack::NackGenerator;
use super::quality::UpTally;
use super::reception::Reception;
use super::stats::Drop;
use crate::ids::{PayloadType, Ssrc};
use crate::plan::{Codec, Format, Kind, ReceiveTrack, UpReport};
use crate::rtp::header::Header;
use crate::rtp::{Found, SequenceUnwrapper};
use std::time::{Duration, Instant};

/// Packets missing after a pause this long were lost with the network, and the sender no longer has them. A receiver
/// may take 3 s to say that it waits for a key frame (libwebrtc `kMaxWaitForFrame`), so it is asked for at once.
const OUTAGE: Duration = Duration::from_millis(700);

/// One encoding of a published track.
#[derive(Debug)]
pub struct UpLayer {
    /// Its source now.
    pub ssrc: Option<Ssrc>,
    /// Key frame requests towards it.
    pub throttle: KeyFrameThrottle,
    /// What is missing of it.
    pub nack: NackGenerator,
    /// Its report.
    pub reception: Option<Reception>,
    /// The format of its latest packet.
    pub format: Option<Format>,
    /// What the room was told of it.
    pub tally: UpTally,
    sequence: SequenceUnwrapper,
    /// Added to the extended sequence numbers of this source, so that those of one encoding never go back.
    base: u64,
    descriptors: Tracker,
    /// When the newest packet came.
    newest_at: Option<Instant>,
}

impl UpLayer {
    fn new() -> Self {
        Self {
            ssrc: None,
            throttle: KeyFrameThrottle::default(),
            nack: NackGenerator::default(),
            reception: None,
            format: None,
            tally: UpTally::default(),
            sequence: SequenceUnwrapper::default(),
            base: 0,
            descriptors: Tracker::default(),
            newest_at: None,
        }
    }

    /// Another source sends this encoding: a sender that began anew.
    fn set_source(&mut self, ssrc: Ssrc) {
        if self.ssrc == Some(ssrc) {
            return;
        }
        if let Some(highest) = self.sequence.highest() {
            // Two circles on, so that nobody takes the first packet for one that follows.
            self.base += ((highest >> 16) + 2) << 16;
        }
        self.ssrc = Some(ssrc);
        self.sequence = SequenceUnwrapper::default();
        self.nack = NackGenerator::default();
        self.reception = None;
        self.tally.begin_anew();
        self.descriptors = Tracker::default();
    }
}

/// A published track.
#[derive(Debug)]
pub struct UpTrack {
    /// Its section of the plan.
    pub plan: ReceiveTrack,
    /// Place of the publisher's transport.
    pub transport: u32,
    /// Place of its feed.
    pub feed: u32,
    /// Its encodings, in the order of the plan.
    pub layers: Vec<UpLayer>,
    /// How loud it is.
    meter: LevelMeter,
}

/// A packet that goes into the feed, as spans of the datagram.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// What is known of it.
    pub facts: Facts,
    /// Dependency descriptor, abs-capture-time, payload.
    pub parts: [&'a [u8]; 3],
    /// First packet ever of its encoding.
    pub is_first: bool,
    /// How loud the publisher was, at the end of an interval.
    pub level: Option<f32>,
}

impl UpTrack {
    /// A track of which nothing has come.
    pub fn new(plan: ReceiveTrack, transport: u32, feed: u32) -> Self {
        Self {
            layers: plan.layers.iter().map(|_| UpLayer::new()).collect(),
            plan,
            transport,
            feed,
            meter: LevelMeter::default(),
        }
    }

    /// Takes over a new plan of the same track; encodings keep their state by spatial index.
    pub fn set_plan(&mut self, plan: ReceiveTrack) {
        let mut old: Vec<(u8, Option<UpLayer>)> = self
            .plan
            .layers
            .iter()
            .map(|layer| layer.spatial)
            .zip(std::mem::take(&mut self.layers).into_iter().map(Some))
            .collect();
        self.layers = plan
            .layers
            .iter()
            .map(|layer| {
                old.iter_mut()
                    .find(|(spatial, _)| *spatial == layer.spatial)
                    .and_then(|(_, layer)| layer.take())
                    .unwrap_or_else(UpLayer::new)
            })
            .collect();
        self.plan = plan;
    }

    /// The encoding with that spatial index, else the lowest.
    pub fn layer_of(&self, spatial: u8) -> Option<usize> {
        let layers = &self.plan.layers;
        layers
            .iter()
            .position(|layer| layer.spatial == spatial)
            .or_else(|| (!layers.is_empty()).then_some(0))
    }

    /// Reads an opened packet of encoding `layer`. Padding alone is accepted with an empty payload: what follows it
    /// must not look like a gap.
    pub fn handle<'a>(
        &mut self,
        now: Instant,
        layer: usize,
        is_rtx: bool,
        packet: &'a [u8],
        header: &Header,
        found: &Found,
    ) -> Result<Accepted<'a>, Drop> {
        let spatial = self
            .plan
            .layers
            .get(layer)
            .ok_or(Drop::UnknownSource)?
            .spatial;
        let state = self.layers.get_mut(layer).ok_or(Drop::UnknownSource)?;
        let mut payload = header.payload(packet).map_err(|_| Drop::Malformed)?;
        let format = format_of(&self.plan, header.pt, is_rtx).ok_or(Drop::NoFormat)?;
        let seq = if is_rtx {
            // RFC 4588 §4: the original sequence number comes first. Without one it is padding, sent as a probe.
            let Some((osn, rest)) = payload.split_first_chunk::<2>() else {
                return Err(Drop::Padding);
            };
            payload = rest;
            u16::from_be_bytes(*osn)
        } else {
            state.set_source(header.ssrc);
            header.seq
        };
        if is_rtx && state.sequence.highest().is_none() {
            return Err(Drop::UnknownSource);
        }
        let is_first = state.format.is_none();
        let before = state.sequence.highest();
        let wire = if is_rtx {
            // A retransmission never leads.
            state.sequence.peek(seq)
        } else {
            state.sequence.unwrap(seq)
        };
        let rate = format.codec.clock_rate();
        state.tally.octets += packet.len() as u64;
        if is_rtx {
            state.nack.handle_packet(now, wire);
        } else {
            state
                .reception
                .get_or_insert_with(|| Reception::new(header.ssrc, rate))
                .handle_packet(now, wire, header.timestamp);
            if self.plan.nack {
                state.nack.handle_packet(now, wire);
            }
        }
        state.format = Some(format);
        let descriptor = found
            .dependency_descriptor
            .map_or(&[][..], |span| span.of(packet));
        let frame = if descriptor.is_empty() {
            None
        } else {
            // One that cannot be read is passed on for those who can.
            state.descriptors.handle(descriptor).ok()
        };
        let frame_facts: FrameFacts = codec::facts(format, payload, header.marker, frame.as_ref());
        // Without a descriptor only VP9 tells of every packet which layer it is part of.
        let svc_layer = if frame.is_some() || format.codec == Codec::Vp9 {
            frame_facts.spatial
        } else {
            0
        };
        let vp8 = if format.codec == Codec::Vp8 {
            Vp8Descriptor::parse(payload).ok()
        } else {
            None
        };
        let is_newest = !is_rtx && before.is_none_or(|before| wire > before);
        if is_newest
            && let Some(at) = state.newest_at.replace(now)
            && before.is_some_and(|before| wire > before + 1)
            && now.saturating_duration_since(at) >= OUTAGE
            && self.plan.kind == Kind::Video
        {
            state.throttle.request();
        }
        if frame_facts.key_frame {
            state.throttle.handle_key_frame();
        }
        let capture = found
            .abs_capture_time
            .map_or(&[][..], |span| span.of(packet));
        let level = found
            .audio_level
            .and_then(|level| self.meter.observe(level.level, header.timestamp, rate));
        Ok(Accepted {
            facts: Facts {
                index: state.base + wire,
                arrival: now,
                timestamp: header.timestamp,
                format,
                spatial,
                marker: header.marker,
                key_frame: frame_facts.key_frame,
                frame_start: frame_facts.frame_start,
                frame_end: frame_facts.frame_end,
                svc_layer,
                temporal: frame_facts.temporal,
                switch_up: frame_facts.switch_up,
                vp8,
                audio_level: found
                    .audio_level
                    .map(|level| level.level | u8::from(level.voice) << 7),
                descriptor_len: descriptor.len() as u8,
                capture_len: capture.len() as u8,
            },
            parts: [descriptor, capture, payload],
            is_first,
            level,
        })
    }

    /// What has come since the last time.
    pub fn quality(&mut self) -> UpReport {
        let mut report = UpReport::new(self.plan.up);
        for (plan, layer) in self.plan.layers.iter().zip(&mut self.layers) {
            layer
                .tally
                .take(plan.spatial, layer.reception.as_ref(), &mut report);
        }
        report
    }

    /// A sender report of one of its encodings.
    pub fn handle_report(
        &mut self,
        now: Instant,
        layer: usize,
        ntp: u64,
        timestamp: u32,
    ) -> Option<ClockMap> {
        let state = self.layers.get_mut(layer)?;
        state.reception.as_mut()?.handle_sender_report(now, ntp);
        Some(ClockMap {
            ntp,
            timestamp,
            rate: state.format?.codec.clock_rate(),
        })
    }
}

fn format_of(plan: &ReceiveTrack, pt: PayloadType, is_rtx: bool) -> Option<Format> {
    plan.formats
        .iter()
        .find(|format| {
            if is_rtx {
                format.rtx == Some(pt)
            } else {
                format.pt == pt
            }
        })
        .map(|format| format.format)
}
