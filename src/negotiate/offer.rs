//! Our own offers: the subscriber role of dual peer connections.

use super::extensions;
use super::formats::{self, Feedback, Own, TABLE};
use super::parse::{Description, DtlsSetup, MAX_SECTIONS, Media, Section as Answered};
use super::sections::{Down, Section, Slot};
use super::write::{self, Lines};
use super::{Accepted, LocalOffer, Negotiator, Role, SdpFault};
use crate::ids::{Mid, PayloadType};
use crate::plan::{Codec, DtlsRole, IceCredentials, Kind, ReceiveFormat, RemoteTransport};

const VIDEO: [Feedback; 4] = [
    Feedback::CcmFir,
    Feedback::Nack,
    Feedback::NackPli,
    Feedback::Remb,
];

impl Negotiator {
    /// Our next offer, with every attached down track in it. `None` in other roles, with nothing to offer, and while an
    /// answer is outstanding (`ice_restart` is then not taken; ask again after the answer). The first one holds the data
    /// channels only if nothing is attached yet.
    pub fn offer(&mut self, ice_restart: Option<IceCredentials>) -> Option<LocalOffer> {
        let data = self.setup.holds_data && self.sections.is_empty();
        let empty = self.sections.is_empty() && self.downs.is_empty() && !data;
        if self.setup.role != Role::Subscriber || self.outstanding.is_some() || empty {
            return None;
        }
        if let Some(ice) = ice_restart {
            self.setup.local = ice;
            self.described = false;
        }
        if data {
            self.sections.push(Section::new("0".into(), Media::Data));
        }
        self.place();

        let lines: Vec<Lines> = (0..self.sections.len())
            .map(|place| self.offered(place))
            .collect();
        let bundle: Vec<String> = self
            .sections
            .iter()
            .filter(|section| !section.rejected)
            .map(|section| section.mid.as_str().to_owned())
            .collect();
        let sdp = write::session(
            &self.setup,
            self.session,
            true,
            Some(&bundle),
            self.described,
            lines,
        );
        self.session.1 += 1;
        self.described = true;
        let id = self.next_offer;
        self.next_offer = self.next_offer.checked_add(1).unwrap_or(1);
        self.outstanding = Some(id);
        // Detached while the answer is under way, a track has not been told as ended yet: `Ended` afterwards means that.
        for section in &mut self.sections {
            if section.slot == Slot::Ended {
                section.slot = Slot::Inactive;
            }
        }
        Some(LocalOffer {
            sdp,
            id,
            mid_to_track_id: self.mid_to_track_id(),
        })
    }

    /// Gives up the offer that has no answer yet: the client lost it, or its answer was lost. The next offer says
    /// everything again.
    pub fn abandon_offer(&mut self) {
        if self.outstanding.take().is_some() {
            self.doubt_inactive();
        }
    }

    /// The id of our offer that has no answer yet.
    pub fn offer_outstanding(&self) -> Option<u32> {
        self.outstanding
    }

    /// The client's answer to our offer `id`; 0 comes from clients that know no ids. On an error nothing has changed
    /// and the offer is still outstanding.
    pub fn accept(&mut self, sdp: &str, id: u32) -> Result<Accepted, SdpFault> {
        if self.outstanding.is_none_or(|ours| id != 0 && id != ours) {
            return Err(SdpFault::NotOurOffer);
        }
        let answer = Description::parse(sdp)?;
        let same = answer.sections.len() == self.sections.len()
            && answer
                .sections
                .iter()
                .zip(&self.sections)
                .all(|(theirs, ours)| theirs.media == ours.media && theirs.mid == ours.mid);
        if !same {
            return Err(SdpFault::SectionsChanged);
        }
        self.outstanding = None;
        let remote = RemoteTransport {
            ice: answer.ice,
            fingerprint: answer.fingerprint,
            role: match answer.setup {
                DtlsSetup::Active | DtlsSetup::ActPass => DtlsRole::Server,
                DtlsSetup::Passive => DtlsRole::Client,
            },
        };
        self.remote = Some(remote.clone());

        let mut bound = Vec::new();
        let mut refused = Vec::new();
        for (place, theirs) in answer.sections.iter().enumerate() {
            self.sections[place].agree(theirs);
            self.sections[place].rejected |= theirs.rejected;
            let Some(index) = self.downs.iter().position(|d| d.section == Some(place)) else {
                continue;
            };
            let takes = !theirs.rejected && theirs.receives;
            let now = self
                .agreement(&self.downs[index].spec, &self.sections[place])
                .filter(|_| takes);
            if now.is_none() {
                refused.push(self.downs[index].spec.down);
                self.sections[place].slot = Slot::Ended;
            } else if now != self.downs[index].bound {
                bound.extend(now.clone());
            }
            self.downs[index].bound = now;
        }
        self.downs.retain(|down| !refused.contains(&down.spec.down));
        Ok(Accepted {
            remote,
            candidates: answer.candidates,
            bound,
            refused,
        })
    }

    /// Gives every waiting down track a section: one that has become inactive, or a new one.
    fn place(&mut self) {
        for index in 0..self.downs.len() {
            let Down {
                spec,
                section: None,
                ..
            } = &self.downs[index]
            else {
                continue;
            };
            let (down, kind) = (spec.down, spec.kind);
            let place = match self.reusable(kind) {
                Some(place) => place,
                None if self.sections.len() < MAX_SECTIONS => {
                    let mid = Mid::from(self.sections.len().to_string());
                    self.sections.push(Section::new(mid, Media::Rtp(kind)));
                    self.sections.len() - 1
                }
                None => continue,
            };
            self.sections[place].slot = Slot::Carrying(down);
            self.downs[index].section = Some(place);
        }
    }

    /// One section of the offer.
    fn offered(&self, place: usize) -> Lines {
        let section = &self.sections[place];
        let strings = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect();
        let mid = section.mid.as_str();
        let Media::Rtp(kind) = section.media else {
            let mut lines = Lines::new("application", 9, strings(&["UDP", "DTLS", "SCTP"]));
            lines.transport(mid, "actpass", &self.setup.local);
            lines.data();
            return lines;
        };
        let name = match kind {
            Kind::Audio => "audio",
            Kind::Video => "video",
        };
        let proto = strings(&["UDP", "TLS", "RTP", "SAVPF"]);
        if section.rejected {
            let mut lines = Lines::new(name, 0, proto);
            lines.format("0");
            lines.value("mid", mid);
            lines.flag("inactive");
            return lines;
        }
        let mut lines = Lines::new(name, 9, proto);
        lines.transport(mid, "actpass", &self.setup.local);
        lines.mux();
        let carried = self.carried(place);
        let codecs = &self.setup.codecs;
        let mut table: Vec<_> = of(kind).collect();
        if kind == Kind::Video {
            // Some clients answer with the first codec that they know, GStreamer's webrtcbin for one.
            if let Some(sent) = carried.and_then(|down| down.spec.formats.first()) {
                table.sort_by_key(|own| (own.format.codec != sent.codec, own.format != *sent));
            }
        }
        for own in table {
            let codec = own.format.codec;
            if !codecs.contains(&codec) || (codec == Codec::Red && self.setup.firefox) {
                continue;
            }
            // A publisher's RED repairs losses by itself, for those who take it.
            let repaired =
                self.setup.red_capable && carried.is_some_and(|down| down.spec.publisher_red);
            let feedback: &[Feedback] = match codec {
                Codec::Red => &[],
                Codec::Opus if repaired => &[],
                Codec::Opus | Codec::Pcma | Codec::Pcmu => &[Feedback::Nack],
                _ => &VIDEO,
            };
            let stereo = codec == Codec::Opus && carried.is_some_and(|down| down.spec.stereo);
            let fmtp = if stereo {
                formats::with_params(own.fmtp, &[], &["sprop-stereo=1"])
            } else {
                own.fmtp.to_owned()
            };
            lines.payload(own.pt, own.map, &fmtp, feedback);
            if let Some(rtx) = own.rtx {
                lines.rtx(rtx, own.pt);
            }
        }
        lines.extensions(extensions::offered(kind, self.setup.playout_delay));
        if let Some(down) = carried {
            lines.track(&down.spec);
        }
        let live = carried.is_some();
        lines.direction(live, live);
        lines
    }
}

fn of(kind: Kind) -> impl Iterator<Item = &'static Own> {
    let own = TABLE.iter();
    own.filter(move |own| own.format.codec.kind() == kind)
}

impl Section {
    /// Takes over what of our offer the client's answer repeats.
    fn agree(&mut self, answered: &Answered) {
        let Media::Rtp(kind) = self.media else {
            return;
        };
        let payload = |pt: u8| answered.payloads.iter().find(|payload| payload.pt == pt);
        self.formats = of(kind)
            .filter(|own| payload(own.pt).is_some())
            .map(|own| ReceiveFormat {
                pt: PayloadType(own.pt),
                format: own.format,
                rtx: own
                    .rtx
                    .filter(|rtx| payload(*rtx).is_some())
                    .map(PayloadType),
            })
            .collect();
        self.nack = answered
            .payloads
            .iter()
            .filter(|payload| payload.feedback.contains(&Feedback::Nack))
            .map(|payload| payload.pt)
            .collect();
        let ours = extensions::offered(kind, true);
        self.extensions = answered
            .extensions
            .iter()
            .copied()
            .filter(|extension| ours.contains(extension))
            .collect();
    }
}
