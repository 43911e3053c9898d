//! What a subscriber wants of a video: size, quality, frame rate, nothing (livekit.md 4.4).

use super::dynacast::Demand;
use super::subscribe::MAX_IDS;
use super::{Fault, Now, Room, Seat};
use crate::ids::TrackSid;
use crate::plan::{Command, Kind, Wanted};
use crate::protocol::livekit::{UpdateTrackSettings, VideoLayer, VideoQuality};
use std::time::Duration;

/// Settings that come in quick succession are taken together; showing a track again is not delayed (livekit 1.13.5).
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A layer counts as large enough at this share of the size asked for (livekit 1.13.5 `layerSelectionTolerance`).
const TOLERANCE: f32 = 0.9;
/// Everything there is.
const ALL: u8 = 255;

/// The newest `track_setting` of a subscriber for one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrackSettings {
    disabled: bool,
    quality: VideoQuality,
    width: u32,
    height: u32,
    fps: u32,
}

impl TrackSettings {
    /// Adaptive streams begin low: the client has not said how large they are shown.
    pub(super) fn initial(adaptive: bool) -> Self {
        let quality = if adaptive {
            VideoQuality::Low
        } else {
            VideoQuality::High
        };
        Self {
            disabled: false,
            quality,
            width: 0,
            height: 0,
            fps: 0,
        }
    }

    fn of(update: &UpdateTrackSettings) -> Self {
        Self {
            disabled: update.disabled,
            quality: update.quality(),
            width: update.width,
            height: update.height,
            fps: update.fps,
        }
    }

    /// In terms of layers, given those published (lowest first).
    fn wanted(self, layers: &[VideoLayer]) -> Wanted {
        // The last one announced stands for whatever is above it: a stream may hold more layers than its publisher told.
        let max_spatial = match self.spatial(layers) {
            last if usize::from(last) + 1 >= layers.len() => ALL,
            layer => layer,
        };
        // Three temporal layers of a 30 fps camera: 7.5, 15 and 30.
        let max_temporal = match self.fps {
            1..=8 => 0,
            9..=15 => 1,
            _ => ALL,
        };
        Wanted {
            paused: self.disabled,
            max_spatial,
            max_temporal,
        }
    }

    /// In terms of qualities.
    fn demand(self, layers: &[VideoLayer]) -> Demand {
        if self.disabled {
            return Demand::Nothing;
        }
        layers
            .get(usize::from(self.spatial(layers)))
            .map_or(Demand::High, |layer| Demand::of(layer.quality()))
    }

    fn spatial(self, layers: &[VideoLayer]) -> u8 {
        if self.width == 0 || self.height == 0 {
            // The layer announced with this quality, or the next lower one.
            let upto = layers
                .iter()
                .rposition(|layer| layer.quality <= self.quality as i32);
            return upto.unwrap_or(0) as u8;
        }
        let portrait = layers
            .last()
            .is_some_and(|layer| layer.height > layer.width);
        let size = |layer: &VideoLayer| if portrait { layer.width } else { layer.height };
        let asked = if portrait { self.width } else { self.height } as f32 * TOLERANCE;
        layers
            .iter()
            .enumerate()
            .position(|(index, layer)| {
                size(layer) as f32 >= asked
                    && layers
                        .get(index + 1)
                        .is_none_or(|next| size(next) != size(layer))
            })
            .unwrap_or_else(|| layers.len().saturating_sub(1)) as u8
    }
}

impl Room {
    pub(super) fn update_track_settings(
        &mut self,
        now: Now,
        seat: Seat,
        update: &UpdateTrackSettings,
    ) {
        let settings = TrackSettings::of(update);
        for sid in update.track_sids.iter().take(MAX_IDS) {
            let Some(subscription) = self.wish(seat, sid) else {
                self.await_settings(now, seat, sid, settings);
                continue;
            };
            let shown_again = subscription.settings.disabled && !settings.disabled;
            subscription.settings = settings;
            let delay = if shown_again {
                Duration::ZERO
            } else {
                DEBOUNCE
            };
            let at = now.at + delay;
            subscription.apply_at = Some(subscription.apply_at.map_or(at, |before| before.min(at)));
        }
        self.apply_settings_if_due(now, seat);
    }

    /// A client that resumes says which tracks it does not want now.
    pub(super) fn disable_tracks(&mut self, now: Now, seat: Seat, sids: &[String]) {
        for sid in sids.iter().take(MAX_IDS) {
            if let Some(subscription) = self.wish(seat, sid) {
                subscription.settings.disabled = true;
                subscription.apply_at = Some(now.at);
                continue;
            }
            let adaptive = self.participant(seat).is_some_and(|p| p.adaptive_stream);
            let settings = TrackSettings {
                disabled: true,
                ..TrackSettings::initial(adaptive)
            };
            self.await_settings(now, seat, sid, settings);
        }
        self.apply_settings_if_due(now, seat);
    }

    /// How a track is to be shown that is not subscribed to.
    fn await_settings(&mut self, now: Now, seat: Seat, sid: &str, settings: TrackSettings) {
        if let Some(participant) = self.participants.get_mut(&seat)
            && !participant.awaited.set(now.at, sid, settings)
        {
            self.fault(Fault::AwaitedTracks);
        }
    }

    pub(super) fn apply_settings_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let mut due = Vec::new();
        for (sid, subscription) in &mut participant.subscriptions {
            if subscription.apply_at.is_some_and(|at| at <= now.at) {
                subscription.apply_at = None;
                due.push(sid.clone());
            }
        }
        let worker = participant.worker;
        for sid in due {
            let wanted = self.wanted(seat, &sid);
            let down = self
                .participants
                .get(&seat)
                .and_then(|p| p.subscriptions.get(&sid))
                .and_then(|s| s.down.as_ref())
                .filter(|down| down.bound && down.waiting.is_none() && !down.closing)
                .map(|down| down.id);
            if let Some(down) = down {
                self.command(worker, Command::SetWanted { down, wanted });
            }
            self.ask_again(now, seat, &sid);
        }
    }

    /// The publisher may have to hear that a subscriber wants something else now.
    fn ask_again(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        let down = self
            .participant(seat)
            .and_then(|p| p.subscriptions.get(sid))
            .and_then(|subscription| subscription.down.as_ref())
            .filter(|down| !down.closing)
            .map(|down| down.id);
        if let Some(down) = down {
            self.ask(now, down, self.demand(seat, sid));
        }
    }

    /// What a subscriber wants of a track, as a quality. Where there are backup codecs it wants nothing before it is
    /// known which one it takes; of audio it wants everything, and only there anybody is told.
    pub(super) fn demand(&self, seat: Seat, sid: &TrackSid) -> Option<Demand> {
        let track = self.publication(*self.tracks.get(sid)?, sid)?;
        let subscription = self.participant(seat)?.subscriptions.get(sid)?;
        let down = subscription.down.as_ref()?;
        let has_backups = !track.backups.is_empty();
        if has_backups && !down.bound {
            return None;
        }
        let place = track.place_of(self.downs.get(&down.id)?.up)?;
        match track.kind {
            Kind::Audio => has_backups.then_some(Demand::High),
            Kind::Video => Some(subscription.settings.demand(track.layers(place))),
        }
    }

    /// What a subscriber wants of a track, in layers.
    pub(super) fn wanted(&self, seat: Seat, sid: &TrackSid) -> Wanted {
        let everything = Wanted {
            paused: false,
            max_spatial: ALL,
            max_temporal: ALL,
        };
        let subscription = self
            .participant(seat)
            .and_then(|p| p.subscriptions.get(sid));
        let settings = subscription.map(|subscription| subscription.settings);
        let up = subscription
            .and_then(|subscription| self.downs.get(&subscription.down.as_ref()?.id))
            .map(|owner| owner.up);
        let track = self
            .tracks
            .get(sid)
            .and_then(|publisher| self.publication(*publisher, sid));
        match (settings, track) {
            (Some(settings), Some(track)) if track.kind == Kind::Video => {
                let place = up.and_then(|up| track.place_of(up)).unwrap_or(0);
                settings.wanted(track.layers(place))
            }
            (Some(settings), Some(_)) => Wanted {
                paused: settings.disabled,
                ..everything
            },
            _ => everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(heights: &[u32]) -> Vec<VideoLayer> {
        heights
            .iter()
            .enumerate()
            .map(|(quality, height)| VideoLayer {
                quality: quality as i32,
                width: height * 16 / 9,
                height: *height,
                ..Default::default()
            })
            .collect()
    }

    fn sized(width: u32, height: u32) -> TrackSettings {
        TrackSettings {
            disabled: false,
            quality: VideoQuality::High,
            width,
            height,
            fps: 0,
        }
    }

    #[test]
    fn the_smallest_layer_that_is_large_enough_is_taken() {
        let three = layers(&[180, 360, 720]);
        for (height, layer) in [
            (90, 0),
            (180, 0),
            (200, 0),
            (201, 1),
            (360, 1),
            (400, 1),
            (500, 2),
            (2000, 2),
        ] {
            assert_eq!(
                sized(height * 16 / 9, height).spatial(&three),
                layer,
                "{height}"
            );
        }
    }

    #[test]
    fn of_layers_of_one_size_the_last_is_taken() {
        assert_eq!(sized(320, 180).spatial(&layers(&[360, 360])), 1);
    }

    #[test]
    fn quality_stands_in_when_no_size_is_given() {
        let three = layers(&[180, 360, 720]);
        for (quality, layer) in [
            (VideoQuality::Low, 0),
            (VideoQuality::Medium, 1),
            (VideoQuality::High, 2),
        ] {
            let settings = TrackSettings {
                quality,
                width: 0,
                height: 0,
                ..sized(0, 0)
            };
            assert_eq!(settings.spatial(&three), layer);
        }
        assert_eq!(TrackSettings::initial(true).spatial(&three), 0);
    }

    #[test]
    fn the_only_layer_is_taken_whatever_its_quality() {
        let mut one = layers(&[720]);
        one[0].quality = VideoQuality::High as i32;
        assert_eq!(TrackSettings::initial(true).spatial(&one), 0);
    }

    #[test]
    fn portrait_video_is_measured_by_its_width() {
        let tall: Vec<VideoLayer> = layers(&[180, 360, 720])
            .into_iter()
            .map(|layer| VideoLayer {
                width: layer.height,
                height: layer.width,
                ..layer
            })
            .collect();
        assert_eq!(sized(360, 640).spatial(&tall), 1);
    }
}
