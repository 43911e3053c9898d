//! Dynacast: a publisher is told which qualities of a video anybody wants, so that it encodes and sends no others
//! (`subscribed_quality_update`, livekit.md 4.5, 14).
//!
//! [`Dynacast`] counts the wishes for one codec of a track; the room feeds it from subscriptions and their settings. More
//! is told at once, less after 5 s. It is told to every publisher: clients without dynacast ignore it. A message has all
//! codecs of which anything was ever told; a backup codec is asked for by its first wish. Of audio with backup codecs the
//! publisher is told the same way which ones anybody takes (`subscribed_audio_codec_update`), of other audio nothing.

use super::track::Publication;
use super::{Now, Room, Seat};
use crate::ids::{DownTrackId, TrackSid, UpTrackId};
use crate::plan::Kind;
use crate::protocol::livekit::{
    SubscribedAudioCodec, SubscribedAudioCodecUpdate, SubscribedCodec, SubscribedQuality,
    SubscribedQualityUpdate, VideoQuality, signal_response,
};
use std::time::{Duration, Instant};

/// Less is told this long after it was first wanted (livekit 1.13.5 `video.dynacast_pause_delay`).
const LOWER_AFTER: Duration = Duration::from_secs(5);
/// A track without subscribers is switched off this long after its publication.
const FIRST_AFTER: Duration = Duration::from_secs(10);

/// The highest quality that somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    Nothing,
    Low,
    Medium,
    High,
}

impl Demand {
    pub(super) fn of(quality: VideoQuality) -> Self {
        match quality {
            VideoQuality::Off => Self::Nothing,
            VideoQuality::Low => Self::Low,
            VideoQuality::Medium => Self::Medium,
            VideoQuality::High => Self::High,
        }
    }
}

/// The wishes for one codec of a track, and what its publisher was told of them.
#[derive(Debug, Default)]
pub(super) struct Dynacast {
    /// Down tracks by demand.
    counts: [u32; 4],
    told: Option<Demand>,
    told_at: Option<Instant>,
    /// Less is told at this moment, if less is wanted then.
    lower_at: Option<Instant>,
    /// Nobody has subscribed since the publication, up to this moment.
    first_by: Option<Instant>,
}

impl Dynacast {
    /// The track is announced, or its backup codec has come; subscribers may come.
    pub(super) fn start(&mut self, now: Instant) {
        if self.told.is_none() {
            self.first_by = Some(now + FIRST_AFTER);
        }
    }

    /// The publisher does not send it any more: whoever wants it makes it be asked for again.
    pub(super) fn forget(&mut self) {
        *self = Self {
            counts: self.counts,
            ..Self::default()
        };
    }

    /// One down track, or another room, wants something else; `None`: it does not exist.
    pub(super) fn change(&mut self, before: Option<Demand>, after: Option<Demand>) {
        if let Some(before) = before {
            let count = &mut self.counts[before as usize];
            *count = count.saturating_sub(1);
        }
        if let Some(after) = after {
            self.counts[after as usize] += 1;
        }
    }

    /// What the publisher is to be told now. `everything`: the highest quality that it announced.
    pub(super) fn review(&mut self, now: Instant, everything: Demand) -> Option<Demand> {
        let wanted = self.wanted();
        let news = match self.told {
            // Whoever comes first has not said how large it shows the video: all is asked for.
            None if self.counts != [0; 4] => Some(everything),
            None => self.first_by.filter(|at| *at <= now).map(|_| wanted),
            Some(told) if wanted > told => Some(wanted),
            Some(told) => self
                .lower_at
                .take_if(|at| *at <= now)
                .filter(|_| wanted < told)
                .map(|_| wanted),
        };
        if news.is_some() {
            self.told = news;
            self.told_at = Some(now);
            self.first_by = None;
        }
        if self.told.is_some_and(|told| wanted < told) {
            self.lower_at.get_or_insert(now + LOWER_AFTER);
        }
        news
    }

    /// When [`Self::review`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.first_by.into_iter().chain(self.lower_at).min()
    }

    /// What the publisher was told last.
    pub(super) fn told(&self) -> Option<Demand> {
        self.told
    }

    /// When that was.
    pub(super) fn told_at(&self) -> Option<Instant> {
        self.told_at
    }

    /// The highest wish; `None`: there are no down tracks.
    pub(super) fn demand(&self) -> Option<Demand> {
        (self.counts != [0; 4]).then(|| self.wanted())
    }

    fn wanted(&self) -> Demand {
        [Demand::High, Demand::Medium, Demand::Low]
            .into_iter()
            .find(|demand| self.counts[*demand as usize] > 0)
            .unwrap_or(Demand::Nothing)
    }
}

impl Room {
    /// A down track wants this of its video from now on; `None`: nothing any more, it ends.
    pub(super) fn ask(&mut self, now: Now, id: DownTrackId, demand: Option<Demand>) {
        let Some(owner) = self.downs.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut owner.demand, demand);
        if before == demand {
            return;
        }
        let up = owner.up;
        self.demand_changed(now, up, before, demand);
    }

    /// The wishes for one codec of a track have changed by those of one down track.
    pub(super) fn demand_changed(
        &mut self,
        now: Now,
        up: UpTrackId,
        before: Option<Demand>,
        after: Option<Demand>,
    ) {
        let Some((publisher, sid)) = self.ups.get(&up).cloned() else {
            return;
        };
        let Some(codec) = self
            .publication_mut(publisher, &sid)
            .and_then(|track| track.codec_track_mut(up))
        else {
            return;
        };
        codec.dynacast.change(before, after);
        self.review_demand(now, publisher, &sid);
    }

    /// Tells what is due for the tracks of a publisher.
    pub(super) fn review_demands_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let due: Vec<TrackSid> = participant
            .tracks
            .values()
            .filter(|track| track.next_demand_review().is_some_and(|at| at <= now.at))
            .map(|track| track.sid.clone())
            .collect();
        for sid in due {
            self.review_demand(now, seat, &sid);
        }
    }

    fn review_demand(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        if self.participant(seat).is_some_and(|p| p.guest.is_some()) {
            // Its own room decides what it is told.
            return self.ask_for_guest(seat);
        }
        let Some(track) = self.publication_mut(seat, sid) else {
            return;
        };
        let everything: Vec<Demand> = (0..=track.backups.len())
            .map(|place| track.everything(place))
            .collect();
        let mut is_news = false;
        for (codec, everything) in track.codecs_mut().zip(everything) {
            is_news |= codec.dynacast.review(now.at, everything).is_some();
        }
        if is_news {
            self.tell_demand(seat, sid);
        }
    }

    /// An unmuted camera may have been given new encodings: it is told again.
    pub(super) fn repeat_demand(&mut self, seat: Seat, sid: &TrackSid) {
        self.tell_demand(seat, sid);
    }

    /// A publisher is back whose session was lost: it may not have heard what was said last.
    pub(super) fn repeat_demands(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let sids: Vec<TrackSid> = participant.tracks.keys().cloned().collect();
        for sid in sids {
            self.tell_demand(seat, &sid);
        }
    }

    fn tell_demand(&mut self, seat: Seat, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.get_mut(sid) else {
            return;
        };
        if track.codecs().all(|codec| codec.dynacast.told.is_none()) {
            return;
        }
        let message = match track.kind {
            Kind::Audio => {
                signal_response::Message::SubscribedAudioCodecUpdate(audio_update_of(track))
            }
            Kind::Video => signal_response::Message::SubscribedQualityUpdate(update_of(track)),
        };
        self.send(seat, message);
    }

    pub(super) fn publication_mut(
        &mut self,
        seat: Seat,
        sid: &TrackSid,
    ) -> Option<&mut Publication> {
        self.participants.get_mut(&seat)?.tracks.get_mut(sid)
    }
}

impl Publication {
    /// The highest quality of a codec that was announced.
    fn everything(&self, place: usize) -> Demand {
        self.layers(place)
            .last()
            .map_or(Demand::High, |layer| Demand::of(layer.quality()))
    }

    /// When there may be something to tell its publisher.
    pub(super) fn next_demand_review(&self) -> Option<Instant> {
        self.codecs()
            .filter_map(|codec| codec.dynacast.next_timeout())
            .min()
    }

    /// What was told of each codec, by the name that it has in these messages.
    fn told(&self) -> impl Iterator<Item = (String, Demand)> {
        let names = (0..).map(|place| {
            let mime = match place {
                0 => &self.info.mime_type,
                _ => self.info.codecs.get(place).map_or("", |c| &c.mime_type),
            };
            let name = mime.rsplit('/').next().unwrap_or(mime);
            name.to_ascii_lowercase()
        });
        let told = self.codecs().map(|codec| codec.dynacast.told);
        names
            .zip(told)
            .filter_map(|(name, told)| Some((name, told?)))
    }
}

/// All qualities of all codecs, and which of them are wanted.
fn update_of(track: &Publication) -> SubscribedQualityUpdate {
    let qualities = |told| {
        [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
            .into_iter()
            .map(|quality| SubscribedQuality {
                quality: quality as i32,
                enabled: told >= Demand::of(quality),
            })
            .collect()
    };
    // Whoever reads the list without codecs has one codec, and goes on until it hears of that.
    let primary = track.primary.dynacast.told.unwrap_or(Demand::High);
    let codecs = track.told().map(|(codec, told)| SubscribedCodec {
        codec,
        qualities: qualities(told),
    });
    #[expect(deprecated, reason = "older clients read the list without codecs")]
    SubscribedQualityUpdate {
        track_sid: track.sid.as_str().to_owned(),
        subscribed_qualities: qualities(primary),
        subscribed_codecs: codecs.collect(),
    }
}

fn audio_update_of(track: &Publication) -> SubscribedAudioCodecUpdate {
    let codecs = track.told().map(|(codec, told)| SubscribedAudioCodec {
        codec,
        enabled: told > Demand::Nothing,
    });
    SubscribedAudioCodecUpdate {
        track_sid: track.sid.as_str().to_owned(),
        subscribed_audio_codecs: codecs.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_subscriber_makes_everything_be_asked_for_and_its_true_wish_follows() {
        let now = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.start(now);
        dynacast.change(None, Some(Demand::Low));
        assert_eq!(dynacast.review(now, Demand::High), Some(Demand::High));
        assert_eq!(dynacast.next_timeout(), Some(now + LOWER_AFTER));
        assert_eq!(dynacast.review(now + SECOND, Demand::High), None);
        assert_eq!(
            dynacast.review(now + LOWER_AFTER, Demand::High),
            Some(Demand::Low)
        );
        assert_eq!(dynacast.next_timeout(), None);
    }

    #[test]
    fn what_nobody_watches_is_switched_off_after_ten_seconds() {
        let now = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.start(now);
        assert_eq!(dynacast.review(now + 9 * SECOND, Demand::High), None);
        assert_eq!(
            dynacast.review(now + FIRST_AFTER, Demand::High),
            Some(Demand::Nothing)
        );
        dynacast.change(None, Some(Demand::Low));
        let later = now + 60 * SECOND;
        assert_eq!(dynacast.review(later, Demand::High), Some(Demand::Low));
    }

    #[test]
    fn the_delay_counts_from_the_first_wish_for_less() {
        let now = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.change(None, Some(Demand::High));
        dynacast.change(None, Some(Demand::Low));
        assert_eq!(dynacast.review(now, Demand::High), Some(Demand::High));
        assert_eq!(dynacast.next_timeout(), None);
        dynacast.change(Some(Demand::High), Some(Demand::Medium));
        assert_eq!(dynacast.review(now, Demand::High), None);
        // Back, and less again: the first moment counts.
        dynacast.change(Some(Demand::Medium), Some(Demand::High));
        assert_eq!(dynacast.review(now + SECOND, Demand::High), None);
        dynacast.change(Some(Demand::High), None);
        assert_eq!(dynacast.review(now + 3 * SECOND, Demand::High), None);
        let due = now + LOWER_AFTER;
        assert_eq!(dynacast.review(due, Demand::High), Some(Demand::Low));
    }

    #[test]
    fn a_wish_that_came_back_in_time_is_not_mentioned() {
        let now = Instant::now();
        let mut dynacast = Dynacast::default();
        dynacast.change(None, Some(Demand::High));
        dynacast.review(now, Demand::High);
        dynacast.change(Some(Demand::High), None);
        dynacast.review(now, Demand::High);
        dynacast.change(None, Some(Demand::High));
        assert_eq!(dynacast.review(now + LOWER_AFTER, Demand::High), None);
        assert_eq!(dynacast.next_timeout(), None);
    }
}
