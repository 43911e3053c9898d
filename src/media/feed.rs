//! One track as a worker serves it: its cached packets, the state of its encodings, and who gets it here.
//!
//! The end of a link ([`super::link`]). On the publisher's worker it is filled by the up track, elsewhere by another
//! worker's batches; down tracks cannot tell the difference. Pure; the plane drives it.

use super::cache::{Cache, Facts, Packet, Stored};
use super::clock::ClockMap;
use super::layer::{Activity, MAX_LAYERS, Survey};
use super::link::Batch;
use crate::ids::{UpTrackId, WorkerId};
use crate::plan::Kind;
use std::time::{Duration, Instant};

/// How long a mirror's wish for a key frame stands for all that come: its owner asks the publisher less often still,
/// and a ring between workers is shared by all rooms.
const ASKED_FOR: Duration = Duration::from_millis(100);
/// An index this far ahead is of another source, which begins two circles of sequence numbers on, with a clock of its own.
const ANOTHER_SOURCE: u64 = 1 << 16;
/// Packets that one receive batch brings at most before they are forwarded.
const MAX_BATCH: usize = 1_024;

/// One encoding.
#[derive(Debug)]
pub struct Stream {
    /// Its packets.
    pub cache: Cache,
    /// Its life.
    pub activity: Activity,
    /// The life of each of its spatial layers; empty while it has shown only one.
    svc: Vec<Activity>,
    /// Its clock, from the publisher's sender reports.
    pub clock: Option<ClockMap>,
    /// The newest packet: when it came, its index and timestamp.
    pub newest: Option<(Instant, u64, u32)>,
}

impl Stream {
    /// The highest index there is.
    pub fn newest_index(&self) -> u64 {
        self.newest.map_or(0, |(_, index, _)| index)
    }
}

/// A track as a worker serves it.
#[derive(Debug)]
pub struct Feed {
    /// The track.
    pub up: UpTrackId,
    /// Audio or video.
    pub kind: Kind,
    /// The worker that owns the track, when this is a mirror.
    pub mirror_of: Option<WorkerId>,
    /// Encodings by spatial index.
    streams: [Option<Box<Stream>>; MAX_LAYERS],
    /// Places of its down tracks.
    pub downs: Vec<u32>,
    /// Rooms that have a mirror's down tracks here, when this is a mirror.
    pub mirror_users: u32,
    /// Workers that it is copied to.
    pub mirrors: Vec<WorkerId>,
    /// The same once for each room that asked.
    pub mirror_asks: Vec<WorkerId>,
    /// What came in this receive batch.
    pub batch: Vec<(u8, u64)>,
    /// The publisher has muted it.
    pub is_muted: bool,
    /// Something fills it: an up track or another worker.
    pub has_source: bool,
    /// When the owner of a mirror was asked for a key frame of each encoding; `None`: not since the last one came.
    asked: [Option<Instant>; MAX_LAYERS],
    /// Encodings whose clock the mirrors have yet to hear of, a bit each.
    new_clocks: u8,
}

impl Feed {
    /// A feed without packets.
    pub fn new(up: UpTrackId, kind: Kind) -> Self {
        Self {
            up,
            kind,
            mirror_of: None,
            streams: [const { None }; MAX_LAYERS],
            downs: Vec::new(),
            mirror_users: 0,
            mirrors: Vec::new(),
            mirror_asks: Vec::new(),
            batch: Vec::new(),
            is_muted: false,
            has_source: false,
            asked: [None; MAX_LAYERS],
            new_clocks: 0,
        }
    }

    /// An encoding that has had packets.
    pub fn stream(&self, spatial: u8) -> Option<&Stream> {
        self.streams.get(usize::from(spatial))?.as_deref()
    }

    /// Keeps a packet and remembers that it is to be forwarded.
    pub fn insert(&mut self, now: Instant, facts: &Facts, parts: &[&[u8]]) -> Stored {
        let Some(place) = self.streams.get_mut(usize::from(facts.spatial)) else {
            return Stored::Refused;
        };
        let stream = place.get_or_insert_with(|| {
            Box::new(Stream {
                cache: Cache::new(self.kind),
                activity: Activity::default(),
                svc: Vec::new(),
                clock: None,
                newest: None,
            })
        });
        if self.batch.len() >= MAX_BATCH {
            return Stored::Refused;
        }
        let stored = stream.cache.insert(facts, parts);
        if stored == Stored::New {
            let len = parts.iter().map(|part| part.len()).sum();
            stream.activity.handle(now, facts.timestamp, len);
            if facts.svc_layer > 0 || !stream.svc.is_empty() {
                let layer = usize::from(facts.svc_layer).min(MAX_LAYERS - 1);
                if layer >= stream.svc.len() {
                    stream.svc.resize(layer + 1, Activity::default());
                }
                stream.svc[layer].handle(now, facts.timestamp, len);
            }
            if facts.key_frame {
                self.asked[usize::from(facts.spatial)] = None;
            }
            let newest = stream.newest_index();
            if stream.newest.is_some() && facts.index > newest + ANOTHER_SOURCE {
                stream.clock = None;
            }
            if stream.newest.is_none() || newest < facts.index {
                stream.newest = Some((facts.arrival, facts.index, facts.timestamp));
            }
            self.batch.push((facts.spatial, facts.index));
        }
        stored
    }

    /// The mapping of an encoding's clock has become known.
    pub fn set_clock(&mut self, spatial: u8, map: ClockMap) {
        if let Some(Some(stream)) = self.streams.get_mut(usize::from(spatial)) {
            stream.clock = Some(map);
        }
    }

    /// The mirrors are to hear of an encoding's clock at the end of the receive batch; `false`: there are none.
    pub fn announce_clock(&mut self, spatial: u8) -> bool {
        self.new_clocks |= 1 << spatial;
        !self.mirrors.is_empty()
    }

    /// The encodings whose clock the mirrors have yet to hear of, a bit each; once.
    pub fn take_new_clocks(&mut self) -> u8 {
        std::mem::take(&mut self.new_clocks)
    }

    /// The worker to ask for a key frame of an encoding; `None`: this is no mirror, or it was asked a moment ago.
    pub fn ask_owner(&mut self, now: Instant, spatial: u8) -> Option<WorkerId> {
        let owner = self.mirror_of?;
        let asked = self.asked.get_mut(usize::from(spatial))?;
        if asked.is_some_and(|at| now < at + ASKED_FOR) {
            return None;
        }
        *asked = Some(now);
        Some(owner)
    }

    /// A packet that is still cached.
    pub fn packet(&self, spatial: u8, index: u64) -> Option<Packet<'_>> {
        self.stream(spatial)?.cache.get(index)
    }

    /// Which encodings live.
    pub fn survey(&self, now: Instant) -> Survey {
        Survey::new(
            now,
            std::array::from_fn(|layer| {
                self.streams[layer]
                    .as_deref()
                    .map(|stream| &stream.activity)
            }),
        )
    }

    /// Which spatial layers live; `None`: several encodings have come of the track, or one of a single layer.
    pub fn svc_survey(&self, now: Instant) -> Option<Survey> {
        let layers = self.svc()?;
        Some(Survey::new(
            now,
            std::array::from_fn(|layer| layers.get(layer)),
        ))
    }

    /// The layers of the only stream. It may go by the name of any encoding: Safari, React Native and Chromium before 113
    /// offer three RIDs for VP9 and send one stream of three layers by the first of them, the highest.
    fn svc(&self) -> Option<&[Activity]> {
        let mut streams = self.streams.iter().flatten();
        match (streams.next(), streams.next()) {
            (Some(only), None) if only.svc.len() > 1 => Some(&only.svc),
            _ => None,
        }
    }

    /// The rates of the encodings, or of spatial layers with those below them, in bits a second.
    pub fn rates(&self) -> [u64; MAX_LAYERS] {
        if let Some(layers) = self.svc() {
            let mut sum = 0;
            return std::array::from_fn(|layer| {
                let own = layers.get(layer).map_or(0, Activity::bitrate);
                sum += own;
                // One that is silent has no rate, as an encoding has none.
                if own == 0 { 0 } else { sum }
            });
        }
        std::array::from_fn(|layer| {
            self.streams[layer]
                .as_ref()
                .map_or(0, |stream| stream.activity.bitrate())
        })
    }

    /// A copy of this receive batch for another worker.
    pub fn copy_batch(&self) -> Batch {
        let mut batch = Batch {
            up: self.up,
            packets: Vec::with_capacity(self.batch.len()),
            bytes: Vec::new(),
        };
        for &(spatial, index) in &self.batch {
            if let Some(packet) = self.packet(spatial, index) {
                batch
                    .packets
                    .push((*packet.facts, packet.body.len() as u16));
                batch.bytes.extend_from_slice(packet.body);
            }
        }
        batch
    }

    /// Takes a batch of another worker.
    pub fn insert_batch(&mut self, now: Instant, batch: &Batch) {
        let mut bytes = &batch.bytes[..];
        for (facts, len) in &batch.packets {
            let Some((body, rest)) = bytes.split_at_checked(usize::from(*len)) else {
                return;
            };
            bytes = rest;
            self.insert(now, facts, &[body]);
        }
    }

    /// Clock mappings, for a mirror that has just begun.
    pub fn clocks(&self) -> impl Iterator<Item = (u8, ClockMap)> + '_ {
        self.streams
            .iter()
            .zip(0u8..)
            .filter_map(|(stream, spatial)| Some((spatial, stream.as_ref()?.clock?)))
    }

    /// Bytes that its caches take.
    pub fn memory(&self) -> usize {
        self.streams
            .iter()
            .flatten()
            .map(|stream| stream.cache.memory())
            .sum()
    }
}
