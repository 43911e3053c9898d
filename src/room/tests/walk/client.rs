//! A client as a random walk needs it: it makes offers and answers, and keeps what it is told of the others.

use super::super::*;
use crate::protocol::livekit::{ParticipantInfo, SessionDescription};
use std::collections::{BTreeMap, BTreeSet};

const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n";
const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
     a=fmtp:97 apt=96\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
     a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
     a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n";

/// A section of its own offers; the first, of the data channels, is not in the list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    pub(super) is_video: bool,
    /// The id of the track that it sends.
    pub(super) sends: Option<String>,
    receives: bool,
    is_simulcast: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) identity: String,
    /// `None` while its WebSocket is down.
    pub(super) session: Option<SessionId>,
    pub(super) sid: String,
    pub(super) is_single: bool,
    /// It wants every track.
    pub(super) is_auto: bool,
    /// Tracks of which it said whether it wants them.
    pub(super) wishes: BTreeMap<String, bool>,
    pub(super) sections: Vec<Section>,
    /// Sections that it is asked for, audio and video; none: for an offer.
    asked: Option<(u32, u32)>,
    offers: u32,
    /// The sections of its last offer.
    offered: Option<Vec<Section>>,
    tracks: u32,
    restarts: u32,
    /// An offer of the server that it has not answered.
    unanswered: Option<SessionDescription>,
    /// What it was last told of each participant, itself included.
    pub(super) view: BTreeMap<String, ParticipantInfo>,
    /// SIDs of those who are said to speak.
    pub(super) speaking: BTreeSet<String>,
    /// Told to go.
    pub(super) is_over: bool,
}

impl Client {
    pub(super) fn new(identity: &str, is_single: bool) -> Self {
        Self {
            identity: identity.to_owned(),
            session: None,
            sid: String::new(),
            is_single,
            is_auto: false,
            wishes: BTreeMap::new(),
            sections: Vec::new(),
            asked: None,
            offers: 0,
            offered: None,
            tracks: 0,
            restarts: 0,
            unanswered: None,
            view: BTreeMap::new(),
            speaking: BTreeSet::new(),
            is_over: false,
        }
    }

    pub(super) fn wants(&self, sid: &str) -> bool {
        self.wishes.get(sid).copied().unwrap_or(self.is_auto)
    }

    pub(super) fn hear(&mut self, message: signal_response::Message) {
        match message {
            signal_response::Message::Join(join) => {
                let me = join.participant.unwrap();
                self.sid.clone_from(&me.sid);
                self.view = join.other_participants.into_iter().map(named).collect();
                self.view.insert(me.identity.clone(), me);
            }
            signal_response::Message::Update(update) => {
                for info in update.participants {
                    self.learn(info);
                }
            }
            signal_response::Message::SpeakersChanged(changed) => {
                for speaker in changed.speakers {
                    if speaker.active {
                        let mut known = self.view.values();
                        assert!(known.any(|info| info.sid == speaker.sid), "who speaks");
                        self.speaking.insert(speaker.sid);
                    } else {
                        self.speaking.remove(&speaker.sid);
                    }
                }
            }
            signal_response::Message::Offer(offer) => self.unanswered = Some(offer),
            signal_response::Message::MediaSectionsRequirement(asked) => {
                let (audio, video) = self.asked.get_or_insert_default();
                *audio += asked.num_audios;
                *video += asked.num_videos;
            }
            signal_response::Message::Leave(_) => self.is_over = true,
            _ => {}
        }
    }

    /// As livekit-client does (`Room.ts`, `handleParticipantUpdates`; `Participant.ts`, `updateInfo`).
    fn learn(&mut self, info: ParticipantInfo) {
        if info.state() == participant_info::State::Disconnected {
            self.view.remove(&info.identity);
            return;
        }
        let known = self.view.get(&info.identity);
        if known.is_none_or(|known| known.sid != info.sid || known.version <= info.version) {
            self.view.insert(info.identity.clone(), info);
        }
    }

    /// A new track, with the section that will send it.
    pub(super) fn add_track(&mut self, is_video: bool, is_simulcast: bool) -> AddTrackRequest {
        self.tracks += 1;
        let cid = format!("{}-{}", self.identity, self.tracks);
        self.sections.push(Section {
            is_video,
            sends: Some(cid.clone()),
            receives: false,
            is_simulcast: is_video && is_simulcast,
        });
        let kind = if is_video {
            TrackType::Video
        } else {
            TrackType::Audio
        };
        let heights = if is_simulcast { 1..4 } else { 3..4 };
        let layers = heights.filter(|_| is_video).map(|step| proto::VideoLayer {
            quality: step - 1,
            width: 320 * step as u32,
            height: 180 * step as u32,
            ..Default::default()
        });
        AddTrackRequest {
            cid,
            r#type: kind as i32,
            source: if is_video { 1 } else { 2 },
            layers: layers.collect(),
            ..Default::default()
        }
    }

    /// Back again: an offer may have been lost.
    pub(super) fn renew(&mut self) {
        self.offered = None;
    }

    pub(super) fn restart(&mut self) {
        self.restarts += 1;
    }

    /// Something has changed since its last offer, or it is asked for one.
    pub(super) fn has_to_offer(&self) -> bool {
        let offered = self.offered.as_ref();
        self.asked.is_some() || offered.is_none_or(|offered| *offered != self.sections)
    }

    /// Its next offer, with the sections that it was asked for.
    pub(super) fn offer(&mut self) -> SessionDescription {
        let (audio, video) = self.asked.take().unwrap_or_default();
        for number in 0..(audio + video) * u32::from(self.is_single) {
            self.sections.push(Section {
                is_video: number >= audio,
                sends: None,
                receives: true,
                is_simulcast: false,
            });
        }
        self.offers += 1;
        self.offered = Some(self.sections.clone());
        SessionDescription {
            r#type: "offer".to_owned(),
            sdp: self.sdp(),
            id: self.offers,
            ..Default::default()
        }
    }

    fn ice(&self) -> String {
        format!(
            "a=ice-ufrag:u{}\r\na=ice-pwd:password-password-password\r\na=fingerprint:sha-256 {}\r\n",
            self.restarts,
            ["AB"; 32].join(":")
        )
    }

    fn sdp(&self) -> String {
        let mids: Vec<String> = (0..=self.sections.len())
            .map(|mid| mid.to_string())
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 {} IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=sctp-port:5000\r\na=setup:actpass\r\n{}",
            self.offers,
            mids.join(" "),
            self.ice(),
        );
        for (place, section) in self.sections.iter().enumerate() {
            sdp += if section.is_video { VIDEO } else { AUDIO };
            sdp += match (section.sends.is_some(), section.receives) {
                (true, true) => "a=sendrecv\r\n",
                (true, false) => "a=sendonly\r\n",
                (false, true) => "a=recvonly\r\n",
                (false, false) => "a=inactive\r\n",
            };
            let mid = (place + 1).to_string();
            for line in ["a=mid:", &mid, "\r\na=setup:actpass\r\n", &self.ice()] {
                sdp += line;
            }
            if let Some(cid) = &section.sends {
                let rids =
                    "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n";
                let ssrc = ["a=ssrc:100", &mid, " cname:c\r\n"].concat();
                let streams = if section.is_simulcast { rids } else { &ssrc };
                for line in ["a=msid:- ", cid, "\r\n", streams] {
                    sdp += line;
                }
            }
        }
        sdp
    }

    /// The answer to the server's newest offer, if there is one.
    pub(super) fn answer(&mut self) -> Option<SessionDescription> {
        let offer = self.unanswered.take()?;
        let mut sdp = String::new();
        for line in offer.sdp.lines() {
            match line {
                "a=setup:actpass" => {
                    sdp += "a=setup:active\r\n";
                    sdp += &self.ice();
                }
                "a=sendonly" | "a=sendrecv" => sdp += "a=recvonly\r\n",
                _ => {
                    let ours = [
                        "ssrc",
                        "msid:",
                        "candidate",
                        "ice-",
                        "fingerprint",
                        "end-of",
                    ];
                    let name = line.strip_prefix("a=").unwrap_or("-");
                    if !ours.iter().any(|start| name.starts_with(start)) {
                        sdp += line;
                        sdp += "\r\n";
                    }
                }
            }
        }
        Some(SessionDescription {
            r#type: "answer".to_owned(),
            sdp,
            id: offer.id,
            ..Default::default()
        })
    }
}

fn named(info: ParticipantInfo) -> (String, ParticipantInfo) {
    (info.identity.clone(), info)
}
