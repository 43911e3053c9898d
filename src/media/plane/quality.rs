//! How the tracks of each transport fare, told to its room every five seconds while there are any.

use super::Plane;
use crate::media::quality::next_report;
use crate::plan::{Event, QualityReport};
use std::time::Instant;

impl Plane {
    /// Tells the room of a transport's tracks when that is due, and sets when it is next.
    pub(super) fn tell_quality(&mut self, now: Instant, place: u32) {
        let Some(peer) = self.peers.get_mut(place) else {
            return;
        };
        let is_due = peer.quality_at.is_some_and(|at| at <= now);
        let has_tracks = !peer.ups.is_empty() || !peer.downs.is_empty();
        peer.quality_at = next_report(now, peer.quality_at, has_tracks);
        if !is_due || !has_tracks {
            return;
        }
        let mut report = QualityReport {
            rtt: None,
            ups: Vec::with_capacity(peer.ups.len()),
            downs: Vec::with_capacity(peer.downs.len()),
        };
        for &up in &peer.ups {
            if let Some(up) = self.ups.get_mut(up) {
                report.ups.push(up.quality());
            }
        }
        for &down in &peer.downs {
            if let Some(down) = self.downs.get_mut(down)
                && let Some(feed) = self.feeds.get(down.feed)
            {
                report.rtt = report.rtt.max(down.measured_rtt());
                report.downs.push(down.quality(now, feed));
            }
        }
        let id = peer.id;
        let report = Box::new(report);
        self.events.push_back((id, Event::Quality { id, report }));
    }
}
