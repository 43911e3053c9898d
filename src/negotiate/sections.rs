//! The memory between two SDPs: media sections, down tracks, and who is waiting for what.

use super::extensions::Uri;
use super::formats;
use super::parse::{MAX_ASKED, MAX_SECTIONS, Media};
use super::{Bound, Negotiator, Publish, Role, SendSpec};
use crate::ids::{DownTrackId, Mid, UpTrackId};
use crate::plan::{Codec, Kind, ReceiveFormat};
use std::collections::HashMap;

/// What a section carries towards the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing so far.
    Fresh,
    /// This down track.
    Carrying(DownTrackId),
    /// Nothing any more, which the client has not been told yet. Told first, used again afterwards: a client that sees
    /// one track turn into another in one step may miss that there was a change.
    Ended,
    /// Nothing any more, and the client knows.
    Inactive,
}

/// A media section.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// `a=mid`.
    pub(super) mid: Mid,
    /// What it is for; never changes unless the section was rejected.
    pub(super) media: Media,
    /// Port 0 in the last SDP: the client may use it for anything else (RFC 8829 §5.2.2).
    pub(super) rejected: bool,
    /// The client can receive on it (as of its last offer); always true in the subscriber role.
    pub(super) receives: bool,
    /// Towards the client.
    pub(super) slot: Slot,
    /// From the client.
    pub(super) publish: Option<Publish>,
    /// Payload types that both sides know, in the client's order.
    pub(super) formats: Vec<ReceiveFormat>,
    /// Payload types for which the client sends NACK.
    pub(super) nack: Vec<u8>,
    /// Header extensions that both sides know.
    pub(super) extensions: Vec<(Uri, u8)>,
}

impl Section {
    /// A section about which nothing is agreed.
    pub(super) fn new(mid: Mid, media: Media) -> Self {
        Self {
            mid,
            media,
            rejected: false,
            receives: false,
            slot: Slot::Fresh,
            publish: None,
            formats: Vec::new(),
            nack: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// Can take a down track of this kind in the SDP that is being written; `reuse`: also after another one.
    pub(super) fn free(&self, kind: Kind, reuse: bool) -> bool {
        self.media == Media::Rtp(kind)
            && !self.rejected
            && self.receives
            && self.publish.is_none()
            && (self.slot == Slot::Fresh || (reuse && self.slot == Slot::Inactive))
    }

    /// Carries or will carry nothing: free now or after the next SDP.
    fn spare(&self, kind: Kind, reuse: bool) -> bool {
        let is_free_next =
            self.media == Media::Rtp(kind) && self.receives && self.slot == Slot::Ended;
        self.free(kind, reuse) || (reuse && is_free_next)
    }
}

/// Sections of a connection from which on all clients have them used again.
const MANY_SECTIONS: usize = 256;

/// A track that the client is to get.
#[derive(Debug, Clone)]
pub(super) struct Down {
    /// What it is.
    pub(super) spec: SendSpec,
    /// Its section, from the SDP that names it on.
    pub(super) section: Option<usize>,
    /// What both sides agreed, once they did.
    pub(super) bound: Option<Bound>,
}

/// Sections that `media_sections_requirement` asked for, by kind: audio, video.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) counts: [u32; 2],
    /// Offers since the last request. The first may have been under way already; if the second still brings nothing,
    /// the request was lost (a broken signal connection) and is made again.
    pub(super) offers: [u8; 2],
}

pub(super) fn index(kind: Kind) -> usize {
    match kind {
        Kind::Audio => 0,
        Kind::Video => 1,
    }
}

impl Asked {
    /// An offer came with this many new sections.
    pub(super) fn offered(&mut self, new: [u32; 2]) {
        for ((count, offers), new) in self.counts.iter_mut().zip(&mut self.offers).zip(new) {
            *count = count.saturating_sub(new);
            *offers += 1;
            if *count == 0 || *offers >= 2 {
                (*count, *offers) = (0, 0);
            }
        }
    }
}

impl Negotiator {
    /// A down track wants a section (single and subscriber role). An id that is attached already is left as it is.
    pub fn attach(&mut self, spec: SendSpec) {
        if !self.downs.iter().any(|down| down.spec.down == spec.down) {
            self.downs.push(Down {
                spec,
                section: None,
                bound: None,
            });
        }
    }

    /// A down track ends: its section becomes inactive in the next SDP and is free after that one.
    pub fn detach(&mut self, down: DownTrackId) {
        self.downs.retain(|other| other.spec.down != down);
        for section in &mut self.sections {
            if section.slot == Slot::Carrying(down) {
                section.slot = Slot::Ended;
            }
        }
    }

    /// Takes a down track off its section and puts it at the end of the queue, to be signalled anew.
    pub fn rebind(&mut self, down: DownTrackId) {
        let spec = self
            .downs
            .iter()
            .find(|other| other.spec.down == down)
            .map(|other| other.spec.clone());
        if let Some(spec) = spec {
            self.detach(down);
            self.attach(spec);
        }
    }

    /// Whether both sides agreed on a section for it.
    pub fn is_bound(&self, down: DownTrackId) -> bool {
        self.downs
            .iter()
            .any(|other| other.spec.down == down && other.bound.is_some())
    }

    /// What both sides agreed on for a down track, once they did.
    pub fn bound(&self, down: DownTrackId) -> Option<&Bound> {
        let mut downs = self.downs.iter();
        let down = downs.find(|other| other.spec.down == down)?;
        down.bound.as_ref()
    }

    /// Whether any attached down track has no section.
    pub fn waiting(&self) -> bool {
        self.downs.iter().any(|down| down.section.is_none())
    }

    /// Whether a negotiation now would change anything with the sections there are: a waiting track finds one, or one
    /// becomes inactive. Ask after every attach, detach, answer and accepted answer; then, in the single role, send
    /// `media_sections_requirement` (with [`Self::missing`], which may be 0/0), in the subscriber role call
    /// [`Self::offer`]. It comes to rest: asking again without news is never its own cause.
    pub fn pending(&self) -> bool {
        let ended = self.sections.iter().any(|s| s.slot == Slot::Ended);
        match self.setup.role {
            Role::Publisher => false,
            Role::Subscriber => {
                let fits = |down: &Down| {
                    self.sections.len() < MAX_SECTIONS || self.reusable(down.spec.kind).is_some()
                };
                let placed = |down: &Down| down.section.is_some();
                ended
                    || self.sections.is_empty()
                    || self.downs.iter().any(|down| !placed(down) && fits(down))
            }
            Role::Single => {
                ended
                    || self.downs.iter().any(|down| {
                        down.section.is_none()
                            && self
                                .sections
                                .iter()
                                .any(|s| s.free(down.spec.kind, self.reuses()))
                    })
            }
        }
    }

    /// Sections that are missing for waiting down tracks beyond those asked for already, (audio, video); they count as
    /// asked for from now on. No more than the client's offer has space for. Single role.
    pub fn missing(&mut self) -> (u32, u32) {
        let mut missing = [0; 2];
        let reuse = self.reuses();
        if self.setup.role == Role::Single {
            let asked: u32 = self.asked.counts.iter().sum();
            let mut free = u32::try_from(MAX_ASKED.saturating_sub(self.sections.len()))
                .unwrap_or(u32::MAX)
                .saturating_sub(asked);
            for kind in [Kind::Audio, Kind::Video] {
                let waiting = self
                    .downs
                    .iter()
                    .filter(|down| down.section.is_none() && down.spec.kind == kind)
                    .count();
                let spare = self.sections.iter().filter(|s| s.spare(kind, reuse));
                let spare = spare.count();
                let kind = index(kind);
                let short = u32::try_from(waiting.saturating_sub(spare)).unwrap_or(u32::MAX);
                missing[kind] = short.saturating_sub(self.asked.counts[kind]).min(free);
                free -= missing[kind];
                if missing[kind] > 0 {
                    self.asked.counts[kind] += missing[kind];
                    self.asked.offers[kind] = 0;
                }
            }
        }
        (missing[0], missing[1])
    }

    /// Forgets what was asked for and told: the client may never have heard it (a resumed signal connection).
    pub fn forget_requests(&mut self) {
        self.asked = Asked::default();
        self.doubt_inactive();
    }

    /// The SDP that told of the end of tracks may be lost: it is told again before their sections are used. A client
    /// that saw one track turn into another at once would show the one as the other.
    pub(super) fn doubt_inactive(&mut self) {
        for section in &mut self.sections {
            if section.slot == Slot::Inactive {
                section.slot = Slot::Ended;
            }
        }
    }

    /// A publication ended at our end: its section is no longer read, whatever the client goes on sending.
    pub fn unpublish(&mut self, up: UpTrackId) {
        for section in &mut self.sections {
            if section.publish.as_ref().is_some_and(|p| p.up == up) {
                section.publish = None;
            }
        }
        self.receive.tracks.retain(|track| track.up != up);
    }

    /// Whether a section may carry one track after another. A client that had better not see that does when it has had
    /// very many: a track that may go missing is better than one that never comes.
    pub(super) fn reuses(&self) -> bool {
        self.setup.reuse_sections || self.sections.len() >= MANY_SECTIONS
    }

    /// A section of ours that a waiting down track may take over (subscriber role).
    pub(super) fn reusable(&self, kind: Kind) -> Option<usize> {
        self.sections.iter().position(|section| {
            self.reuses()
                && section.media == Media::Rtp(kind)
                && section.slot == Slot::Inactive
                && !section.rejected
        })
    }

    /// All sections that carry a down track.
    pub(super) fn mid_to_track_id(&self) -> HashMap<String, String> {
        self.downs
            .iter()
            .filter_map(|down| {
                let section = self.sections.get(down.section?)?;
                Some((
                    section.mid.as_str().to_owned(),
                    down.spec.track_sid.as_str().to_owned(),
                ))
            })
            .collect()
    }

    /// The down track that a section carries.
    pub(super) fn carried(&self, section: usize) -> Option<&Down> {
        self.downs.iter().find(|down| down.section == Some(section))
    }

    /// What a down track and a section agree on.
    pub(super) fn agreement(&self, spec: &SendSpec, section: &Section) -> Option<Bound> {
        let formats = formats::matched(&spec.formats, &section.formats, !self.setup.firefox);
        let first = formats.first()?;
        let nack = formats
            .iter()
            .filter(|format| format.format.codec != Codec::Red)
            .chain([first])
            .any(|format| section.nack.contains(&format.pt.0));
        Some(Bound {
            down: spec.down,
            mid: section.mid.clone(),
            formats,
            extensions: super::extensions::ids(&section.extensions),
            nack,
        })
    }
}
