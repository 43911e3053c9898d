//! Arrival times of the packets of one transport, and the feedback that a publisher's congestion control lives on
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! Driven by the transport: every packet that carries a transport-wide sequence number goes in, and at
//! [`TwccRecorder::next_timeout`] feedback packets are polled until there is none. Cadence from livekit 1.13.5
//! (`mediatransportutil/pkg/twcc`). Bounded: what is not told in time is forgotten.

use crate::ids::Ssrc;
use crate::rtp::sequence::SequenceUnwrapper;
use crate::rtp::transport_cc::{self, MAX_HOLE};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long arrivals wait to be told.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long they wait when a frame is complete and enough have gathered.
const MARKER_INTERVAL: Duration = Duration::from_millis(50);
/// Enough.
const ENOUGH: usize = 20;
/// Room in which an arrival can be told of for certain.
const ROOM: usize = 64;
/// Most arrivals that wait: 100 ms of 80 Mbit/s.
const MAX_WAITING: usize = 1_000;

/// The arrivals that have not been told of.
#[derive(Debug)]
pub struct TwccRecorder {
    sender: Ssrc,
    media: Ssrc,
    unwrapper: SequenceUnwrapper,
    /// Rising sequence numbers with ticks of 250 µs since `epoch`.
    waiting: VecDeque<(u64, i64)>,
    epoch: Option<Instant>,
    due: Option<Instant>,
    /// When the first of those that wait came.
    since: Option<Instant>,
    /// One past the highest number that was told of.
    told: Option<u64>,
    number: u8,
}

impl TwccRecorder {
    /// Feedback is sent as `sender`.
    pub fn new(sender: Ssrc) -> Self {
        Self {
            sender,
            media: Ssrc(0),
            unwrapper: SequenceUnwrapper::default(),
            waiting: VecDeque::new(),
            epoch: None,
            due: None,
            since: None,
            told: None,
            number: 0,
        }
    }

    /// Takes note of a packet of `media` with the transport-wide number `seq`.
    pub fn handle_packet(&mut self, now: Instant, media: Ssrc, seq: u16, marker: bool) {
        let epoch = *self.epoch.get_or_insert(now);
        let ticks = (now.saturating_duration_since(epoch).as_micros() / 250) as i64;
        let seq = self.unwrapper.unwrap(seq);
        let place = self
            .waiting
            .iter()
            .rposition(|(other, _)| *other <= seq)
            .map_or(0, |index| index + 1);
        if place > 0 && self.waiting[place - 1].0 == seq {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            if place == 0 {
                return;
            }
            self.waiting.pop_front();
            self.waiting.insert(place - 1, (seq, ticks));
        } else {
            self.waiting.insert(place, (seq, ticks));
        }
        self.media = media;
        let since = *self.since.get_or_insert(now);
        let wait = if marker && self.waiting.len() > ENOUGH {
            MARKER_INTERVAL
        } else {
            INTERVAL
        };
        self.due = Some(self.due.map_or(since + wait, |due| due.min(since + wait)));
    }

    /// When [`Self::poll`] has something to tell.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Writes a feedback packet, a whole RTCP packet, and says its length; `None`: nothing is due or left, or there is
    /// no room. To be called until then, and again with more room while something is due.
    pub fn poll(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let written = self.write(out);
        if let Some(written) = written {
            self.waiting.drain(..written.arrivals);
            self.told = Some(self.told.map_or(written.end, |told| told.max(written.end)));
            self.number = self.number.wrapping_add(1);
        } else if out.len() >= ROOM {
            self.waiting.clear();
        }
        if self.waiting.is_empty() {
            self.due = None;
            self.since = None;
        }
        written.map(|written| written.len)
    }

    fn write(&self, out: &mut [u8]) -> Option<transport_cc::Written> {
        let first = self.waiting.front()?.0;
        let told = self.told.unwrap_or(first);
        let is_late = first < told;
        // What is told of begins where the last feedback ended, so that losses in between are told; unless too much
        // lies in between. What comes late has only its own neighbours told with it: the packets around it have been
        // told already, and must not be called lost now.
        let base = if first.saturating_sub(told) <= MAX_HOLE {
            told.min(first)
        } else {
            first
        };
        let run = self
            .waiting
            .iter()
            .enumerate()
            .take_while(|(index, (seq, _))| !is_late || *seq == first + *index as u64)
            .map(|(_, arrival)| *arrival);
        transport_cc::write(out, self.sender, self.media, self.number, base, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::{self, Feedback};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MEDIA: Ssrc = Ssrc(2);

    type Told = Vec<(u16, Option<i64>)>;

    fn start() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// All feedback due: number, then sequence numbers with arrival in ticks.
    fn poll(recorder: &mut TwccRecorder, now: Instant) -> Vec<(u8, Told)> {
        let mut out = [0; 1_200];
        let mut all = Vec::new();
        while let Some(len) = recorder.poll(now, &mut out) {
            match rtcp::parse(&out[..len]).next() {
                Some(Ok(Feedback::TransportCc(feedback))) => {
                    assert_eq!((feedback.sender, feedback.media), (Ssrc(1), MEDIA));
                    all.push((feedback.number, feedback.arrivals().collect()));
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn feedback_comes_a_tenth_of_a_second_after_the_first_packet() {
        let now = start();
        let mut recorder = TwccRecorder::new(Ssrc(1));
        assert_eq!(recorder.next_timeout(), None);
        recorder.handle_packet(now, MEDIA, 10, false);
        recorder.handle_packet(now + ms(5), MEDIA, 12, true);
        assert_eq!(recorder.next_timeout(), Some(now + ms(100)));
        assert_eq!(poll(&mut recorder, now + ms(99)), []);
        assert_eq!(
            poll(&mut recorder, now + ms(100)),
            [(0, vec![(10, Some(0)), (11, None), (12, Some(20))])]
        );
        assert_eq!(recorder.next_timeout(), None);
    }

    #[test]
    fn the_end_of_a_frame_halves_the_wait_when_there_is_enough_to_tell() {
        let now = start();
        let mut recorder = TwccRecorder::new(Ssrc(1));
        for seq in 0..20 {
            recorder.handle_packet(now, MEDIA, seq, false);
        }
        assert_eq!(recorder.next_timeout(), Some(now + ms(100)));
        recorder.handle_packet(now + ms(1), MEDIA, 20, true);
        assert_eq!(recorder.next_timeout(), Some(now + ms(50)));
    }

    #[test]
    fn losses_between_two_feedbacks_are_told_and_late_packets_told_alone() {
        let now = start();
        let mut recorder = TwccRecorder::new(Ssrc(1));
        for seq in [65_533, 65_535] {
            recorder.handle_packet(now, MEDIA, seq, false);
        }
        poll(&mut recorder, now + ms(100));
        for seq in [2, 65_534, 3] {
            recorder.handle_packet(now + ms(100), MEDIA, seq, false);
        }
        let late = Some(400);
        assert_eq!(
            poll(&mut recorder, now + ms(200)),
            [
                (1, vec![(65_534, late)]),
                (2, vec![(0, None), (1, None), (2, late), (3, late)])
            ]
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = start();
        let mut recorder = TwccRecorder::new(Ssrc(1));
        for seq in 0..5_000 {
            recorder.handle_packet(now, MEDIA, seq, false);
        }
        assert_eq!(recorder.waiting.len(), MAX_WAITING);
        let told: usize = poll(&mut recorder, now + ms(100))
            .iter()
            .map(|(_, statuses)| statuses.len())
            .sum();
        assert_eq!(told, MAX_WAITING);
    }

    #[test]
    fn what_finds_no_room_is_told_of_with_more() {
        let now = start();
        let mut recorder = TwccRecorder::new(Ssrc(1));
        recorder.handle_packet(now, MEDIA, 1, false);
        for room in 0..ROOM {
            let mut recorder = TwccRecorder::new(Ssrc(1));
            recorder.handle_packet(now, MEDIA, 1, false);
            let told = recorder.poll(now + ms(100), &mut vec![0; room]).is_some();
            assert_eq!(recorder.next_timeout().is_none(), told);
        }
        assert!(recorder.poll(now + ms(100), &mut [0; ROOM]).is_some());
        assert_eq!(recorder.next_timeout(), None);
    }

    proptest! {
        /// Every arrival is told once, at its time, and nothing that arrived is called lost after it was told.
        #[test]
        fn every_arrival_is_told_once(
            first_seq: u16,
            packets in prop::collection::vec((1u64..5, 0u64..8, 0u64..12_000, any::<bool>()), 1..400),
        ) {
            let begin = start();
            let mut now = begin;
            let mut recorder = TwccRecorder::new(Ssrc(1));
            let mut arrived = BTreeMap::new();
            let mut told = BTreeMap::new();
            let mut head = 0u64;
            for (step, back, wait_us, marker) in packets {
                now += Duration::from_micros(wait_us);
                if recorder.next_timeout().is_some_and(|due| due <= now) {
                    for (seq, time) in poll(&mut recorder, now).into_iter().flat_map(|(_, all)| all) {
                        let seq = u64::from(seq.wrapping_sub(first_seq));
                        match time {
                            Some(time) => prop_assert_eq!(told.insert(seq, time), None),
                            None => prop_assert!(!told.contains_key(&seq), "{} told and then lost", seq),
                        }
                    }
                }
                head += step;
                let seq = head.saturating_sub(back);
                arrived.entry(seq).or_insert_with(|| {
                    recorder.handle_packet(now, MEDIA, first_seq.wrapping_add(seq as u16), marker);
                    (now - begin).as_micros() as i64 / 250
                });
            }
            for (seq, time) in poll(&mut recorder, now + ms(100)).into_iter().flat_map(|(_, all)| all) {
                if let Some(time) = time {
                    told.insert(u64::from(seq.wrapping_sub(first_seq)), time);
                }
            }
            // Times count from the first arrival.
            let first = arrived.values().min().copied().unwrap();
            let shifted: BTreeMap<_, _> = arrived.into_iter().collect();
            prop_assert_eq!(told.len(), shifted.len());
            for (seq, time) in shifted {
                prop_assert!((told[&seq] - (time - first)).abs() <= 1);
            }
        }
    }
}
