//! One track as one subscriber gets it: which encoding, from which packet on, under which numbers.
//!
//! Owned by the plane, on the subscriber's worker; it reads a [`Feed`] and never learns whose. It decides and counts; the
//! plane writes, seals and sends what it decided. Flow of a packet: the gate (paused, encoding, key frame, spatial and
//! temporal layer), the format, the numbers ([`Munger`], [`Vp8Munger`]), the history. Behaviour of livekit 1.13.5
//! pkg/sfu/{forwarder,downtrack}.go.

mod reports;

use super::cache::{Facts, Packet};
use super::codec::{blank, vp8::Vp8Descriptor};
use super::feed::Feed;
use super::history::{History, Origin, Sent};
use super::layer::Limit;
use super::munger::{Munger, Refusal};
use super::mute::Filler;
use super::quality::DownTally;
use super::svc::Ladder;
use super::timers::Armed;
use super::vp8_munger::Vp8Munger;
use crate::ids::PayloadType;
use crate::plan::{Codec, DownReport, DownTrackPlan, Format, Kind, Wanted};
use crate::random::Random;
use std::time::{Duration, Instant};

/// How long a new down track waits for a key frame of the layer it aims for before it takes any.
const GRACE: Duration = Duration::from_secs(1);
/// How often the choice of the layer is looked at while packets come.
const REVIEW: Duration = Duration::from_millis(100);
/// Pause between requests for a key frame: two round trips within these bounds (livekit.md 4.2).
const REQUEST_MIN: Duration = Duration::from_millis(200);
const REQUEST_MAX: Duration = Duration::from_secs(1);
/// The same while nothing comes at all.
const REQUEST_IDLE: Duration = Duration::from_secs(5);
/// Round trip while none was measured (livekit.md 4.1).
const DEFAULT_RTT: Duration = Duration::from_millis(70);

/// A hole that no loss makes: the publisher began anew, and what follows is not joined to what was.
const LONGEST_HOLE: u64 = 3_000;

/// Bytes of a packet of padding that announces a track.
const GREETING: u8 = 20;

/// Where a down track's transport and feed are.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Place of the subscriber's transport.
    pub transport: u32,
    /// Place of the feed.
    pub feed: u32,
}

/// A frame that is made here.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Extended sequence number.
    pub out: u64,
    /// Timestamp.
    pub timestamp: u32,
    /// The marker.
    pub marker: bool,
    /// The VP8 descriptor.
    pub vp8: Option<Vp8Descriptor>,
    /// Bytes of padding, and no frame; 0: a frame.
    pub padding: u8,
}

/// What is to be sent for a packet of the feed.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Extended sequence number on the wire.
    pub out: u64,
    /// Timestamp on the wire.
    pub timestamp: u32,
    /// Payload type on the wire.
    pub pt: PayloadType,
    /// The marker.
    pub marker: bool,
    /// What stands in the VP8 descriptor.
    pub vp8: Option<Vp8Descriptor>,
    /// Only the primary encoding of a RED payload.
    pub unwrap_red: bool,
    /// An encoding begins with it.
    pub is_beginning: bool,
}

/// Why a packet is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The subscriber wants nothing, or another encoding, or waits for a key frame.
    Gate,
    /// The subscriber has no payload type for it.
    NoFormat,
    /// It was sent before, or its place is gone.
    Late,
    /// Padding only, or above the spatial or temporal layers wanted.
    Skipped,
}

/// How a format goes to the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outlet {
    pt: PayloadType,
    rtx: Option<PayloadType>,
    unwrap_red: bool,
}

/// A down track.
#[derive(Debug)]
pub struct DownTrack {
    /// What negotiation said.
    pub plan: DownTrackPlan,
    /// Place of the subscriber's transport.
    pub transport: u32,
    /// Place of the feed.
    pub feed: u32,
    /// Its timer.
    pub armed: Armed,
    /// What it sent.
    pub history: History,
    /// Silence, black frames or padding that it sends now.
    pub filler: Option<Filler>,
    /// What it sends of its own announces the track; `None`: that is still to be seen.
    greets: Option<bool>,
    /// It ends when the filler does.
    pub is_closing: bool,
    /// The receiver has reported on the source: no MID any more.
    pub is_known: bool,
    /// What congestion leaves.
    pub limit: Limit,
    /// Which spatial layers of the encoding go out.
    pub ladder: Ladder,
    /// Packets and payload bytes sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    /// Next sequence number of the retransmission stream, extended.
    pub rtx_next: u64,
    /// When the first packet was sent.
    began: Option<Instant>,
    /// When the newest timestamp was sent.
    last: Option<Instant>,
    /// When the next sender report is due.
    pub report_at: Option<Instant>,
    /// Packets at the last sender report.
    pub reported_packets: u32,
    /// The sender report before told the publisher's clock.
    tells_their_clock: bool,
    /// Reports sent: middle 32 bits of their NTP time, and when.
    pub reports: [Option<(u32, Instant)>; 2],
    rtt: Option<Duration>,
    tally: DownTally,
    wanted: Wanted,
    current: Option<u8>,
    target: Option<u8>,
    needs_key_frame: bool,
    /// The layer that is sent has ended and another is aimed for.
    is_starved: bool,
    /// Until when only the layer aimed for is taken; set by the first packet offered.
    grace_until: Option<Instant>,
    review_at: Instant,
    request_at: Instant,
    /// The last key frame was asked for while nothing came: the request may have been lost like everything else.
    has_asked_in_vain: bool,
    /// The newest packet of the current encoding that was let through.
    newest_index: u64,
    temporal: u8,
    munger: Munger,
    vp8: Vp8Munger,
    /// The format met last and how it goes out; formats change rarely.
    outlet: Option<(Format, Option<Outlet>)>,
}

impl DownTrack {
    /// A down track that has sent nothing.
    pub fn new(now: Instant, plan: DownTrackPlan, places: Places, random: &mut Random) -> Self {
        Self {
            wanted: plan.wanted,
            plan,
            transport: places.transport,
            feed: places.feed,
            armed: Armed::default(),
            history: History::new(now),
            filler: None,
            greets: None,
            is_closing: false,
            is_known: false,
            limit: Limit::default(),
            ladder: Ladder::default(),
            packets: 0,
            octets: 0,
            // Far from both ends: a receiver has to guess the rollover counter (RFC 3711 §3.3.1).
            rtx_next: 0x2000 + u64::from(random.u32() & 0x3fff),
            began: None,
            last: None,
            report_at: None,
            reported_packets: 0,
            tells_their_clock: false,
            reports: [None; 2],
            rtt: None,
            tally: DownTally::default(),
            current: None,
            target: None,
            needs_key_frame: true,
            is_starved: false,
            grace_until: None,
            review_at: now,
            request_at: now,
            has_asked_in_vain: false,
            newest_index: 0,
            temporal: 0,
            munger: Munger::new((random.u32() & 0x7fff) as u16, random.u32()),
            vp8: Vp8Munger::new(random.u32() as u16),
            outlet: None,
        }
    }

    /// Takes over a new plan for the same track: other payload types, ids or section; the numbers go on.
    pub fn set_plan(&mut self, now: Instant, plan: DownTrackPlan) {
        if plan.ssrc != self.plan.ssrc || plan.mid != self.plan.mid {
            self.is_known = false;
        }
        if plan.ssrc != self.plan.ssrc || plan.transport != self.plan.transport {
            self.begin_anew(now);
        }
        let wanted = plan.wanted;
        self.plan = plan;
        if let Some((format, _)) = self.outlet.take() {
            self.outlet(format);
        }
        self.set_wanted(now, wanted);
    }

    /// For the receiver it is another stream now, and that must begin with a rollover counter of 0 (RFC 3711 §3.3.1).
    fn begin_anew(&mut self, now: Instant) {
        let seq = (self.munger.next_seq() & 0x7fff) as u16;
        self.munger = Munger::new(seq, self.munger.timestamp());
        self.rtx_next = 0x2000 + (self.rtx_next & 0x3fff);
        self.history = History::new(now);
        self.is_known = false;
        self.reports = [None; 2];
        self.tally.begin_anew();
        (self.packets, self.octets, self.reported_packets) = (0, 0, 0);
        self.tells_their_clock = false;
        self.current = None;
        self.cut(now);
    }

    /// It carries another track from now on, whose first packet goes on under the numbers that it has.
    pub fn follow(&mut self, now: Instant, feed: u32) {
        self.feed = feed;
        // The other feed keeps what was sent: none of it can be repeated.
        self.history = History::new(now);
        self.ladder = Ladder::following();
        (self.current, self.target, self.grace_until) = (None, None, None);
        (self.is_starved, self.has_asked_in_vain) = (false, false);
        self.filler = None;
        self.cut(now);
    }

    /// The subscriber's wish has changed.
    pub fn set_wanted(&mut self, now: Instant, wanted: Wanted) {
        if self.wanted.paused && !wanted.paused {
            // What was missed meanwhile is no loss: the numbers go on without a hole.
            self.cut(now);
        }
        self.wanted = wanted;
        self.review_at = now;
        self.plan.wanted = wanted;
    }

    /// The next packet begins anew: a key frame for video, and no hole in the numbers.
    pub fn cut(&mut self, now: Instant) {
        self.needs_key_frame = true;
        self.request_at = self.request_at.min(now);
    }

    /// Whether it has ever sent anything of its publisher's.
    pub fn has_sent(&self) -> bool {
        self.began.is_some()
    }

    /// The encoding that is sent now.
    pub fn current(&self) -> Option<u8> {
        self.current
    }

    /// The encoding that is sent now, or the highest of the spatial layers in it.
    pub fn current_layer(&self) -> Option<u8> {
        let encoding = self.current?;
        Some(self.ladder.current().unwrap_or(encoding))
    }

    /// Whether it wants packets at all.
    pub fn is_open(&self) -> bool {
        !self.wanted.paused && !self.is_closing
    }

    /// The round trip to the subscriber.
    pub fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// The codec that is sent now, for fillers.
    pub fn codec(&self) -> Option<(Codec, PayloadType, Option<PayloadType>)> {
        let (format, outlet) = self.outlet?;
        let outlet = outlet?;
        let codec = if outlet.unwrap_red {
            Codec::Opus
        } else {
            format.codec
        };
        Some((codec, outlet.pt, outlet.rtx))
    }

    /// Looks at the choice of the encoding; called while packets come.
    pub fn review(&mut self, now: Instant, feed: &Feed) {
        if feed.kind == Kind::Audio || now < self.review_at {
            return;
        }
        self.review_at = now + REVIEW;
        let survey = feed.survey(now);
        let svc = feed.svc_survey(now);
        let highest = svc.unwrap_or(survey).highest().unwrap_or(0);
        if self.has_asked_in_vain && survey.live.contains(&true) {
            self.has_asked_in_vain = false;
            self.request_at = now;
        }
        self.limit.relax(now, highest);
        let most = self.wanted.max_spatial.min(self.limit.cap());
        let waited = self.ladder.waits_for_key_frame();
        self.ladder.allow(most, svc.as_ref());
        if !waited && self.ladder.waits_for_key_frame() {
            self.request_at = now;
        }
        self.is_starved = survey.is_dead(self.current);
        let target = survey.choose(most, self.current);
        if target != self.target {
            self.target = target;
            if target != self.current {
                self.request_at = now;
            }
        }
    }

    /// The encoding of which a key frame is to be asked for now.
    pub fn poll_key_frame(&mut self, now: Instant, feed: &Feed) -> Option<u8> {
        if !self.waits_for_key_frame(feed) || now < self.request_at {
            return None;
        }
        let survey = feed.survey(now);
        self.has_asked_in_vain = !survey.live.contains(&true);
        self.request_at = now
            + if self.has_asked_in_vain {
                REQUEST_IDLE
            } else {
                (self.rtt() * 2).clamp(REQUEST_MIN, REQUEST_MAX)
            };
        let is_late = self.grace_until.is_some_and(|until| until <= now);
        if self.current.is_none() && is_late {
            // The layer aimed for does not come: any one will do.
            return survey.choose(0, self.target);
        }
        self.target
    }

    /// When [`Self::poll_key_frame`] wants to be asked next.
    pub fn key_frame_timeout(&self, feed: &Feed) -> Option<Instant> {
        self.waits_for_key_frame(feed).then_some(self.request_at)
    }

    fn waits_for_key_frame(&self, feed: &Feed) -> bool {
        feed.kind == Kind::Video
            && self.is_open()
            && !feed.is_muted
            && self.target.is_some()
            && (self.needs_key_frame
                || self.target != self.current
                || self.ladder.waits_for_key_frame())
    }

    /// Decides on one packet of the feed.
    pub fn offer(
        &mut self,
        now: Instant,
        feed: &Feed,
        packet: &Packet<'_>,
    ) -> Result<Verdict, Withheld> {
        let facts = packet.facts;
        if !self.is_open() || feed.is_muted {
            self.needs_key_frame = true;
            return Err(Withheld::Gate);
        }
        let has_jumped =
            self.current == Some(facts.spatial) && facts.index > self.newest_index + LONGEST_HOLE;
        let is_beginning =
            self.needs_key_frame || has_jumped || self.current != Some(facts.spatial);
        if is_beginning {
            if feed.kind == Kind::Video && !self.may_begin(now, facts) {
                self.needs_key_frame |= has_jumped;
                return Err(Withheld::Gate);
            }
            if packet.payload().is_empty() {
                return Err(Withheld::Skipped);
            }
            if self.outlet(facts.format).is_none() {
                return Err(Withheld::NoFormat);
            }
            self.begin(now, feed, facts);
        }
        self.newest_index = self.newest_index.max(facts.index);
        if packet.payload().is_empty() || !self.ladder.passes(facts) || self.is_above(facts) {
            self.munger.leave_out(facts.index);
            if let Some(vp8) = &facts.vp8 {
                self.vp8.leave_out(vp8);
            }
            return Err(Withheld::Skipped);
        }
        let Some(outlet) = self.outlet(facts.format) else {
            self.munger.leave_out(facts.index);
            return Err(Withheld::NoFormat);
        };
        let numbers = self
            .munger
            .rewrite(facts.index, facts.timestamp)
            .map_err(|refusal| match refusal {
                Refusal::Duplicate | Refusal::LeftOut => Withheld::Skipped,
                Refusal::TooOld => Withheld::Late,
            })?;
        let vp8 = match &facts.vp8 {
            // A picture that was left out keeps its place in the numbers.
            Some(vp8) => Some(self.vp8.rewrite(vp8).ok_or(Withheld::Late)?),
            None => None,
        };
        let marker = facts.marker || self.ladder.ends_picture(facts);
        let origin = Origin::Cached {
            index: facts.index,
            spatial: facts.spatial,
        };
        if self.plan.nack {
            self.history.push(
                now,
                numbers.seq,
                origin,
                numbers.timestamp,
                marker,
                outlet.rtx,
                vp8,
            );
        }
        if self.munger.timestamp() == numbers.timestamp {
            self.last = Some(now);
            self.began.get_or_insert(now);
        }
        Ok(Verdict {
            out: numbers.seq,
            timestamp: numbers.timestamp,
            pt: outlet.pt,
            marker,
            vp8,
            unwrap_red: outlet.unwrap_red,
            is_beginning,
        })
    }

    fn may_begin(&mut self, now: Instant, facts: &Facts) -> bool {
        let until = *self.grace_until.get_or_insert(now + GRACE);
        if !facts.key_frame {
            return false;
        }
        let spatial = Some(facts.spatial);
        spatial == self.target
            || self.target.is_none()
            || (self.needs_key_frame && spatial == self.current)
            || (self.current.is_none() && until <= now)
            // A smaller picture is better than one that stands still.
            || (self.is_starved && spatial < self.target)
    }

    /// The packet becomes the next one of this down track, whatever came before.
    fn begin(&mut self, now: Instant, feed: &Feed, facts: &Facts) {
        let rate = i64::from(facts.format.codec.clock_rate());
        let guess = self.ticks_since_last(now, facts.format.codec.clock_rate());
        let source = match self.current {
            None => None,
            Some(old) if old == facts.spatial => Some(facts.timestamp),
            Some(old) => feed
                .stream(facts.spatial)
                .and_then(|stream| stream.clock)
                .zip(feed.stream(old).and_then(|stream| stream.clock))
                .map(|(new, old)| new.translate(facts.timestamp, &old)),
        };
        // What the clocks say, unless it goes back or contradicts the arrival by more than two seconds.
        let ahead = source
            .map(|source| {
                let sent = self.munger.rewrite_timestamp(source);
                i64::from(sent.wrapping_sub(self.munger.timestamp()) as i32)
            })
            .filter(|&ahead| ahead > 0 && (ahead - i64::from(guess)).abs() < 2 * rate)
            .map_or(guess, |ahead| ahead as u32);
        self.munger.switch(facts.index, facts.timestamp, ahead);
        if let Some(vp8) = &facts.vp8 {
            self.vp8.switch(vp8);
        }
        self.current = Some(facts.spatial);
        self.newest_index = facts.index;
        self.ladder.begin();
        self.needs_key_frame = false;
        self.is_starved = false;
        self.temporal = self.wanted.max_temporal;
        self.filler = None;
    }

    /// RTP ticks from the newest timestamp sent to now, at least 1.
    fn ticks_since_last(&self, now: Instant, rate: u32) -> u32 {
        let elapsed = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        (elapsed.as_micros() * u128::from(rate) / 1_000_000).max(1) as u32
    }

    /// Whether the packet lies above the temporal layers wanted. Layers are dropped at any frame and taken up again
    /// where one depends on the base layer only.
    fn is_above(&mut self, facts: &Facts) -> bool {
        if facts.vp8.is_none() {
            return false;
        }
        if facts.key_frame || self.wanted.max_temporal < self.temporal {
            self.temporal = self.wanted.max_temporal;
        } else if facts.temporal > self.temporal
            && facts.temporal <= self.wanted.max_temporal
            && facts.switch_up
        {
            self.temporal = facts.temporal;
        }
        facts.temporal > self.temporal
    }

    fn outlet(&mut self, format: Format) -> Option<Outlet> {
        if let Some((known, outlet)) = self.outlet
            && known == format
        {
            return outlet;
        }
        let formats = &self.plan.formats;
        let outlet = formats
            .iter()
            .find(|send| send.format == format)
            .or_else(|| {
                formats
                    .iter()
                    .find(|send| send.format.codec == format.codec)
            })
            .map(|send| (send, false))
            .or_else(|| {
                let opus = formats
                    .iter()
                    .find(|send| send.format.codec == Codec::Opus)?;
                (format.codec == Codec::Red).then_some((opus, true))
            })
            .map(|(send, unwrap_red)| Outlet {
                pt: send.pt,
                rtx: send.rtx,
                unwrap_red,
            });
        self.outlet = Some((format, outlet));
        outlet
    }

    /// Begins to send silence or black; with `closing` it is the last that is sent. `false`: there is nothing to be
    /// sent and nothing to wait for.
    pub fn fill(&mut self, now: Instant, lasting: Duration, closing: bool) -> bool {
        let codec = self.codec().map(|(codec, ..)| codec);
        self.filler = Some(Filler::new(now, codec, lasting));
        self.is_closing = closing;
        true
    }

    /// Its receiver can be reached: when it needs packets to take notice of the track, they begin soon.
    pub fn greet(&mut self, now: Instant) {
        if !self.plan.needs_packets || self.greets.is_some() || !self.is_open() {
            return;
        }
        self.greets = Some(self.last.is_none());
        if self.last.is_none() {
            let formats = &self.plan.formats;
            let opus = formats.iter().find(|send| send.format.codec == Codec::Opus);
            if let Some(format) = opus.or_else(|| formats.first()).map(|send| send.format) {
                self.outlet(format);
                self.filler = Some(Filler::greeting(now));
            }
        }
    }

    /// There is no frame to make for this codec: only the time runs.
    pub fn skip_filler(&mut self, now: Instant) {
        if let Some(filler) = &mut self.filler {
            filler.silence(now);
        }
    }

    /// The publisher sends again.
    pub fn unmute(&mut self, now: Instant) {
        if !self.is_closing {
            self.filler = None;
        }
        self.cut(now);
    }

    /// Numbers for a frame that is made here.
    pub fn make(&mut self, now: Instant) -> Option<Made> {
        let greets = self.greets == Some(true) && !self.has_sent();
        let (codec, _, rtx) = self.codec()?;
        let marker = codec.kind() == Kind::Video;
        if !greets {
            self.last?;
            blank::pace(codec)?;
        }
        let elapsed = self.ticks_since_last(now, codec.clock_rate());
        let numbers = self.munger.insert(elapsed);
        if greets && marker {
            // No picture: whoever records would take a black one for the publisher's.
            self.last = Some(now);
            return Some(Made {
                out: numbers.seq,
                timestamp: numbers.timestamp,
                marker,
                vp8: None,
                padding: GREETING,
            });
        }
        let vp8 = (codec == Codec::Vp8).then(|| self.vp8.insert());
        self.last = Some(now);
        self.needs_key_frame = true;
        if self.plan.nack {
            self.history.push(
                now,
                numbers.seq,
                Origin::Made,
                numbers.timestamp,
                marker,
                rtx,
                vp8,
            );
        }
        Some(Made {
            out: numbers.seq,
            timestamp: numbers.timestamp,
            marker,
            vp8,
            padding: 0,
        })
    }

    /// How many packets of the current encoding are missing right before this one.
    pub fn missing_before(&self, facts: &Facts) -> u64 {
        if self.needs_key_frame || self.current != Some(facts.spatial) {
            return 0;
        }
        facts.index.saturating_sub(self.newest_index + 1)
    }

    /// Whether RED goes out as the Opus in it.
    pub fn unwraps_red(&mut self, format: Format) -> bool {
        self.outlet(format).is_some_and(|outlet| outlet.unwrap_red)
    }

    /// The payload type of Opus, which is that of the blocks in RED.
    pub fn opus_pt(&self) -> Option<PayloadType> {
        self.plan
            .formats
            .iter()
            .find(|send| send.format.codec == Codec::Opus)
            .map(|send| send.pt)
    }

    /// MID, while the receiver does not know the source.
    pub fn mid(&self) -> Option<&[u8]> {
        (!self.is_known).then(|| self.plan.mid.as_str().as_bytes())
    }

    /// The delay that the receiver is to keep, while it does not know the source.
    pub fn playout_delay(&self) -> Option<[u8; 3]> {
        self.plan.playout_delay.filter(|_| !self.is_known)
    }

    /// A packet with so much payload was sent.
    pub fn count(&mut self, len: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(len as u32);
    }

    /// The round trip to the subscriber, once its reports have told it.
    pub fn measured_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What has gone out since the last time, and what its receiver has said of it.
    pub fn quality(&mut self, now: Instant, feed: &Feed) -> DownReport {
        let rate = self
            .codec()
            .map_or(90_000, |(codec, _, _)| codec.clock_rate());
        let mut report = self
            .tally
            .take(self.plan.down, self.packets, self.octets, rate);
        if feed.kind == Kind::Video && self.is_open() {
            let layers = feed.svc_survey(now).unwrap_or_else(|| feed.survey(now));
            let most = layers.highest().unwrap_or(0);
            report.held_back = most
                .min(self.wanted.max_spatial)
                .saturating_sub(self.limit.cap());
        }
        report
    }

    /// What a NACK's sequence number is answered with.
    pub fn resend(&mut self, now: Instant, seq: u16) -> Option<Sent> {
        self.history.resend(now, seq, self.rtt())
    }
}
