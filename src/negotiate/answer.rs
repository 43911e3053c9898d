//! Answering the client's offers: publisher and single role.

use super::extensions;
use super::formats::{self, Feedback, Payload};
use super::layers::layers;
use super::parse::{self, Description, DtlsSetup, MAX_SECTIONS, Media};
use super::sections::{Section, Slot, index};
use super::write::{self, Lines};
use super::{Answer, Bound, Negotiator, Offer, OfferedSection, Publish, Role, SdpFault};
use crate::ids::{DownTrackId, Mid};
use crate::plan::{
    Codec, DtlsRole, IceCredentials, Kind, ReceiveFormat, ReceivePlan, ReceiveTrack,
    RemoteTransport,
};
use crate::random::Random;
use crate::secret::Secret;
use std::collections::HashMap;

/// Feedback of sections on which the client publishes, in LiveKit's order; goog-remb in the single role only.
const PUBLISHED: [Feedback; 5] = [
    Feedback::TransportCc,
    Feedback::Remb,
    Feedback::CcmFir,
    Feedback::Nack,
    Feedback::NackPli,
];
/// Feedback of sections that carry a down track.
const CARRYING: [Feedback; 4] = [
    Feedback::CcmFir,
    Feedback::Nack,
    Feedback::NackPli,
    Feedback::Remb,
];

impl Negotiator {
    /// Reads an offer of the client; nothing changes yet.
    pub fn parse_offer(&self, sdp: &str) -> Result<Offer, SdpFault> {
        let description = Description::parse(sdp)?;
        let sections = description
            .sections
            .iter()
            .filter(|section| section.usable())
            .filter_map(|section| match section.media {
                Media::Rtp(kind) => Some(OfferedSection {
                    mid: section.mid.clone(),
                    kind,
                    sends: section.sends,
                    msid_track: section.msid_track.clone(),
                }),
                Media::Data | Media::Unknown => None,
            })
            .collect();
        Ok(Offer {
            sections,
            description,
        })
    }

    /// Answers an offer. `publishes`: what the room decided for sections on which the client sends; a section keeps
    /// its publication until the client stops sending there, so that later answers need not name it again. `random`
    /// makes new credentials when the client restarts ICE. On an error nothing has changed.
    pub fn answer(
        &mut self,
        offer: Offer,
        publishes: &HashMap<Mid, Publish>,
        random: &mut Random,
    ) -> Result<Answer, SdpFault> {
        let offer = offer.description;
        self.check(&offer)?;

        let restarted = self
            .remote
            .as_ref()
            .is_some_and(|remote| remote.ice != offer.ice);
        if restarted {
            self.setup.local = fresh(&self.setup.local, random);
            self.described = false;
        }
        let role = match (offer.setup, &self.remote) {
            (DtlsSetup::Passive, _) => DtlsRole::Client,
            (DtlsSetup::Active, _) | (DtlsSetup::ActPass, None) => DtlsRole::Server,
            (DtlsSetup::ActPass, Some(remote)) => remote.role,
        };
        let remote = RemoteTransport {
            ice: offer.ice.clone(),
            fingerprint: offer.fingerprint,
            role,
        };
        self.remote = Some(remote.clone());

        let mut unbound = self.remember(&offer, publishes);
        let (bound, refused) = self.bind();
        unbound.retain(|down| !self.is_bound(*down) && !refused.contains(down));

        let setup = match role {
            DtlsRole::Client => "active",
            DtlsRole::Server => "passive",
        };
        let lines: Vec<Lines> = offer
            .sections
            .iter()
            .enumerate()
            .map(|(index, section)| self.section(index, section, setup))
            .collect();
        let accepted: Vec<String> = self
            .sections
            .iter()
            .filter(|section| !section.rejected)
            .map(|section| section.mid.as_str().to_owned())
            .collect();
        let bundle = offer.bundle.as_ref().map(|offered| {
            accepted
                .into_iter()
                .filter(|mid| offered.contains(mid))
                .collect::<Vec<_>>()
        });
        let sdp = write::session(
            &self.setup,
            self.session,
            offer.allow_mixed,
            bundle.as_deref(),
            self.described,
            lines,
        );
        self.session.1 += 1;
        self.described = true;
        for section in &mut self.sections {
            if section.slot == Slot::Ended {
                section.slot = Slot::Inactive;
            }
        }
        self.receive = self.plan(&offer);
        Ok(Answer {
            sdp,
            mid_to_track_id: self.mid_to_track_id(),
            remote,
            candidates: offer.candidates,
            restarted,
            receive: self.receive.clone(),
            bound,
            refused,
            unbound,
            missing: self.missing(),
        })
    }

    /// Whether this offer may follow what was negotiated before.
    fn check(&self, offer: &Description) -> Result<(), SdpFault> {
        if self.setup.role == Role::Subscriber {
            return Err(SdpFault::NotOurOffer);
        }
        if offer.sections.len() > MAX_SECTIONS {
            return Err(SdpFault::TooManySections);
        }
        if offer.sections.len() < self.sections.len() {
            return Err(SdpFault::SectionsChanged);
        }
        let changed = self
            .sections
            .iter()
            .zip(&offer.sections)
            .any(|(old, new)| !old.rejected && (old.mid != new.mid || old.media != new.media));
        if changed {
            return Err(SdpFault::SectionsChanged);
        }
        Ok(())
    }

    /// Takes over what the offer says about each section; down tracks that lost theirs are returned.
    fn remember(
        &mut self,
        offer: &Description,
        publishes: &HashMap<Mid, Publish>,
    ) -> Vec<DownTrackId> {
        let mut unbound = Vec::new();
        let mut new = [0; 2];
        let mut data = false;
        let single = self.setup.role == Role::Single;
        for (place, offered) in offer.sections.iter().enumerate() {
            let fresh = match self.sections.get(place) {
                None => {
                    self.sections
                        .push(Section::new(offered.mid.clone(), offered.media));
                    true
                }
                Some(old) if old.mid != offered.mid || old.media != offered.media => {
                    self.sections[place] = Section::new(offered.mid.clone(), offered.media);
                    true
                }
                Some(_) => false,
            };
            let section = &mut self.sections[place];
            let mut usable = offered.usable();
            match offered.media {
                Media::Rtp(kind) => {
                    section.formats = formats::agreed(&offered.payloads, &self.setup.codecs);
                    usable &= !section.formats.is_empty();
                    let (role, playout) = (self.setup.role, self.setup.playout_delay);
                    section.extensions =
                        extensions::answered(&offered.extensions, role, kind, playout);
                    section.nack = match kind {
                        Kind::Audio => Vec::new(),
                        Kind::Video => offered
                            .payloads
                            .iter()
                            .filter(|payload| payload.feedback.contains(&Feedback::Nack))
                            .map(|payload| payload.pt)
                            .collect(),
                    };
                    // Also one that the client has stopped already: it was added for us, and is not worth waiting for.
                    if fresh && (offered.receives || !offered.sends) {
                        new[index(kind)] += 1;
                    }
                }
                Media::Data => {
                    usable &= !data;
                    data |= usable;
                }
                Media::Unknown => {}
            }
            section.rejected = !usable;
            if !usable || !offered.sends {
                section.publish = None;
            } else if let Some(publish) = publishes.get(&offered.mid) {
                section.publish = Some(publish.clone());
            }
            section.receives = usable && single && offered.receives;
            if !section.receives {
                match section.slot {
                    Slot::Fresh | Slot::Inactive => {}
                    Slot::Ended => section.slot = Slot::Inactive,
                    Slot::Carrying(down) => {
                        section.slot = Slot::Inactive;
                        unbound.push(down);
                    }
                }
            }
        }
        for down in self
            .downs
            .iter_mut()
            .filter(|down| unbound.contains(&down.spec.down))
        {
            down.section = None;
            down.bound = None;
        }
        self.asked.offered(new);
        unbound
    }

    /// Gives waiting down tracks their sections, in the order in which they were attached. Returns those that are new
    /// or got something else than before, and those that no section takes.
    fn bind(&mut self) -> (Vec<Bound>, Vec<DownTrackId>) {
        let mut bound = Vec::new();
        let mut refused = Vec::new();
        for place in 0..self.downs.len() {
            let spec = self.downs[place].spec.clone();
            if let Some(section) = self.downs[place].section {
                let now = self.agreement(&spec, &self.sections[section]);
                if now.is_none() {
                    self.sections[section].slot = Slot::Ended;
                    refused.push(spec.down);
                } else if now != self.downs[place].bound {
                    bound.extend(now.clone());
                    self.downs[place].bound = now;
                }
                continue;
            }
            let mut disagreed = false;
            let reuse = self.reuses();
            for section in 0..self.sections.len() {
                if !self.sections[section].free(spec.kind, reuse) {
                    continue;
                }
                match self.agreement(&spec, &self.sections[section]) {
                    None => disagreed = true,
                    Some(agreed) => {
                        self.sections[section].slot = Slot::Carrying(spec.down);
                        self.downs[place].section = Some(section);
                        self.downs[place].bound = Some(agreed.clone());
                        bound.push(agreed);
                        disagreed = false;
                        break;
                    }
                }
            }
            if disagreed {
                refused.push(spec.down);
            }
        }
        self.downs.retain(|down| !refused.contains(&down.spec.down));
        (bound, refused)
    }

    /// One section of the answer.
    fn section(&self, place: usize, offered: &parse::Section, setup: &str) -> Lines {
        let section = &self.sections[place];
        if section.rejected {
            let mut lines = Lines::new(&offered.name, 0, offered.proto.clone());
            lines.format(&offered.first_format);
            lines.value("mid", offered.mid.as_str());
            lines.flag("inactive");
            return lines;
        }
        let mut lines = Lines::new(&offered.name, 9, offered.proto.clone());
        lines.transport(offered.mid.as_str(), setup, &self.setup.local);
        let Media::Rtp(kind) = section.media else {
            lines.data();
            return lines;
        };
        lines.mux();
        // The room matched it, or there is nothing else that it could be good for.
        let receive = offered.sends && (section.publish.is_some() || !section.receives);
        let carried = self.carried(place);
        let publish = section.publish.as_ref().filter(|_| receive);
        for format in self.ordered(section, publish) {
            let Some(payload) = offered.payloads.iter().find(|p| p.pt == format.pt.0) else {
                continue;
            };
            let feedback = self.feedback(kind, receive, carried.is_some(), payload);
            let stereo = carried.is_some_and(|down| down.spec.stereo);
            let fmtp = fmtp(format, payload, receive, publish, stereo);
            lines.payload(payload.pt, &payload.map, &fmtp, &feedback);
            if let Some(rtx) = format.rtx {
                lines.rtx(rtx.0, payload.pt);
            }
        }
        lines.extensions(&section.extensions);
        if let Some(down) = carried {
            lines.track(&down.spec);
        }
        if receive {
            lines.rids(&offered.rids);
        }
        let send = section.receives && matches!(section.slot, Slot::Fresh | Slot::Carrying(_));
        lines.direction(send, receive);
        lines
    }

    /// The payload types of a section in the order of the answer: the client's, except that a publisher is told our
    /// preference by what stands first.
    fn ordered(&self, section: &Section, publish: Option<&Publish>) -> Vec<ReceiveFormat> {
        let mut formats = section.formats.clone();
        let Some(publish) = publish else {
            return formats;
        };
        if !publish.red && section.slot == Slot::Fresh {
            formats.retain(|format| format.format.codec != Codec::Red);
        }
        let sent = |format: &ReceiveFormat| !self.setup.unsent.contains(&format.format.codec);
        if section.slot == Slot::Fresh && formats.iter().any(sent) {
            formats.retain(sent);
        }
        formats.sort_by_key(|format| format.format.codec != Codec::Red);
        let preferred = |format: &ReceiveFormat| Some(format.format.codec) == publish.preferred;
        if formats.iter().any(preferred) {
            formats.sort_by_key(|format| !preferred(format));
            if self.setup.firefox && section.media == Media::Rtp(Kind::Video) {
                // Firefox goes on with its own favourite as long as that is answered at all.
                formats.retain(preferred);
                for format in &mut formats {
                    format.rtx = None;
                }
            }
        }
        formats
    }

    fn feedback(
        &self,
        kind: Kind,
        receive: bool,
        carrying: bool,
        payload: &Payload,
    ) -> Vec<Feedback> {
        if kind == Kind::Audio {
            return Vec::new();
        }
        let single = self.setup.role == Role::Single;
        let known: &[Feedback] = match (receive, carrying) {
            (true, _) => &PUBLISHED,
            (false, true) => &CARRYING,
            (false, false) => return payload.feedback.clone(),
        };
        known
            .iter()
            .copied()
            .filter(|feedback| payload.feedback.contains(feedback))
            .filter(|feedback| single || *feedback != Feedback::Remb)
            .collect()
    }

    /// What the client sends after this answer.
    fn plan(&self, offer: &Description) -> ReceivePlan {
        let mut plan = ReceivePlan::default();
        for (section, offered) in self.sections.iter().zip(&offer.sections) {
            let Media::Rtp(kind) = section.media else {
                continue;
            };
            if section.rejected {
                continue;
            }
            extensions::add(&mut plan.extensions, &section.extensions);
            let Some(publish) = &section.publish else {
                continue;
            };
            let formats = self.ordered(section, Some(publish));
            plan.tracks.push(ReceiveTrack {
                up: publish.up,
                mid: section.mid.clone(),
                kind,
                nack: formats.iter().any(|f| section.nack.contains(&f.pt.0)),
                formats,
                layers: layers(offered),
            });
        }
        plan
    }
}

/// The parameters of a payload type in an answer: the client's own, those of Opus as the room wants them.
fn fmtp(
    format: ReceiveFormat,
    payload: &Payload,
    receive: bool,
    publish: Option<&Publish>,
    sends_stereo: bool,
) -> String {
    if format.format.codec != Codec::Opus {
        // What Chromium's encoder is to start with is of no meaning where the client does not send.
        let idle: &[&str] = if receive {
            &[]
        } else {
            &["x-google-start-bitrate"]
        };
        return formats::with_params(&payload.fmtp, idle, &[]);
    }
    let mut without = Vec::new();
    let mut with = Vec::new();
    if let Some(publish) = publish {
        without.extend(["stereo", "usedtx"]);
        if publish.dtx {
            with.push("usedtx=1");
        }
        if publish.stereo {
            without.push("maxaveragebitrate");
            with.extend(["stereo=1", "maxaveragebitrate=510000"]);
        }
    }
    if sends_stereo {
        without.push("sprop-stereo");
        with.push("sprop-stereo=1");
    }
    formats::with_params(&payload.fmtp, &without, &with)
}

/// New credentials, of the same length and for the same worker: the first character of a ufrag names it.
fn fresh(old: &IceCredentials, random: &mut Random) -> IceCredentials {
    let mut ufrag: String = old.ufrag.chars().take(1).collect();
    ufrag.push_str(&random.text(old.ufrag.len().clamp(8, 32) - 1));
    IceCredentials {
        ufrag,
        password: Secret::new(random.text(32)),
    }
}
