//! The single role against a slow, obvious client and room: whatever order things happen in, no subscription is lost.
//!
//! The client makes an offer at one time and gets the answer at another; in between, tracks come and go. Requests for
//! sections arrive later, or never. The model knows the sections by reading the text of the answers.

use super::{down, negotiator, publish};
use crate::ids::{DownTrackId, Mid, UpTrackId};
use crate::negotiate::{Negotiator, Publish, Role};
use crate::plan::{Codec, Format, Kind};
use crate::random::Random;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug, Clone)]
enum Op {
    /// The room subscribes the client to another track; `odd`: in a codec that the client lacks.
    Attach { video: bool, odd: bool },
    /// The room ends one of its subscriptions.
    Detach(usize),
    /// The room signals one anew.
    Rebind(usize),
    /// The room asks for sections if it has a reason to.
    Nudge { lost: bool },
    /// The client hears what it was asked for.
    Hear,
    /// The client makes an offer.
    Offer,
    /// The offer reaches the server, the answer the client.
    Deliver,
    /// The client publishes on a new section.
    Publish { video: bool },
    /// The client publishes on a section on which it receives.
    PublishBack(usize),
    /// The client stops publishing.
    Unpublish(usize),
    /// The client stops receiving on a section, or starts again.
    Toggle(usize),
    /// The client adds a section of its own accord.
    Add { video: bool },
    /// The client's next offer restarts ICE.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(video, odd)| Op::Attach { video, odd }),
        3 => any::<usize>().prop_map(Op::Detach),
        1 => any::<usize>().prop_map(Op::Rebind),
        5 => prop::bool::weighted(0.2).prop_map(|lost| Op::Nudge { lost }),
        4 => Just(Op::Hear),
        6 => Just(Op::Offer),
        6 => Just(Op::Deliver),
        2 => any::<bool>().prop_map(|video| Op::Publish { video }),
        1 => any::<usize>().prop_map(Op::PublishBack),
        2 => any::<usize>().prop_map(Op::Unpublish),
        1 => any::<usize>().prop_map(Op::Toggle),
        1 => any::<bool>().prop_map(|video| Op::Add { video }),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone)]
struct Section {
    video: bool,
    receives: bool,
    /// The up track that it publishes.
    up: Option<u64>,
}

/// What the client knows of a section from the last answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    Inactive,
    Track(String),
}

struct World {
    negotiator: Negotiator,
    random: Random,
    firefox: bool,
    sections: Vec<Section>,
    restarts: u32,
    /// Offer under way, with the sections as they were.
    offer: Option<(String, Vec<Section>)>,
    /// Requests under way.
    requests: Vec<(u32, u32)>,
    /// A request never arrives.
    lost: bool,
    /// The client has a reason to make an offer.
    changed: bool,
    told: Vec<Told>,
    ufrag: Option<(u32, String)>,
    /// The room's side: tracks attached, those that no section may take, and those reported as bound.
    attached: BTreeSet<u64>,
    odd: BTreeSet<u64>,
    bound: BTreeMap<u64, String>,
    next: u64,
}

impl World {
    fn new(firefox: bool) -> Self {
        let data = Section {
            video: false,
            receives: false,
            up: None,
        };
        Self {
            negotiator: negotiator(Role::Single),
            random: Random::seeded(3),
            firefox,
            // The data channels are section 0.
            sections: vec![data],
            restarts: 0,
            offer: None,
            requests: Vec::new(),
            lost: false,
            changed: true,
            told: Vec::new(),
            ufrag: None,
            attached: BTreeSet::new(),
            odd: BTreeSet::new(),
            bound: BTreeMap::new(),
            next: 0,
        }
    }

    fn pick(&self, index: usize, which: impl Fn(&Section) -> bool) -> Option<usize> {
        let all: Vec<usize> = (1..self.sections.len())
            .filter(|place| which(&self.sections[*place]))
            .collect();
        (!all.is_empty()).then(|| all[index % all.len()])
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn step(&mut self, op: &Op) {
        self.changed |= match op {
            Op::Hear => !self.requests.is_empty(),
            Op::Publish { .. }
            | Op::PublishBack(_)
            | Op::Unpublish(_)
            | Op::Toggle(_)
            | Op::Add { .. }
            | Op::Restart => true,
            _ => false,
        };
        match *op {
            Op::Attach { video, odd } => {
                let id = self.id();
                let mut spec = down(id, if video { Kind::Video } else { Kind::Audio });
                if odd {
                    let codec = if video { Codec::H265 } else { Codec::Pcma };
                    spec.formats = vec![Format { codec, variant: 0 }];
                    self.odd.insert(id);
                }
                self.attached.insert(id);
                self.negotiator.attach(spec);
            }
            Op::Detach(index) | Op::Rebind(index) => {
                if self.attached.is_empty() {
                    return;
                }
                let id = *self
                    .attached
                    .iter()
                    .nth(index % self.attached.len())
                    .unwrap();
                self.bound.remove(&id);
                if matches!(op, Op::Detach(_)) {
                    self.attached.remove(&id);
                    self.negotiator.detach(DownTrackId(id));
                } else {
                    self.negotiator.rebind(DownTrackId(id));
                }
            }
            Op::Nudge { lost } => self.nudge(lost),
            Op::Hear => {
                for (audio, video) in std::mem::take(&mut self.requests) {
                    for index in 0..audio + video {
                        self.add(index >= audio);
                    }
                }
            }
            Op::Offer => {
                if self.offer.is_none() {
                    self.offer = Some((self.sdp(), self.sections.clone()));
                    self.changed = false;
                }
            }
            Op::Deliver => self.deliver(),
            Op::Publish { video } => {
                let up = self.id();
                self.sections.push(Section {
                    video,
                    receives: false,
                    up: Some(up),
                });
            }
            Op::PublishBack(index) => {
                let up = self.id();
                if let Some(place) = self.pick(index, |s| s.receives && s.up.is_none()) {
                    self.sections[place].up = Some(up);
                }
            }
            Op::Unpublish(index) => {
                if let Some(place) = self.pick(index, |s| s.up.is_some()) {
                    self.sections[place].up = None;
                }
            }
            Op::Toggle(index) => {
                if let Some(place) = self.pick(index, |s| s.up.is_none()) {
                    self.sections[place].receives ^= true;
                }
            }
            Op::Add { video } => self.add(video),
            Op::Restart => self.restarts += 1,
        }
    }

    fn add(&mut self, video: bool) {
        if self.sections.len() < 100 {
            self.sections.push(Section {
                video,
                receives: true,
                up: None,
            });
        }
    }

    fn nudge(&mut self, lost: bool) {
        let pending = self.negotiator.pending();
        let missing = self.negotiator.missing();
        if pending || missing != (0, 0) {
            self.lost |= lost;
            if !lost {
                self.requests.push(missing);
            }
        }
    }

    fn sdp(&self) -> String {
        let fingerprint = ["AB"; 32].join(":");
        let mids: Vec<String> = (0..self.sections.len())
            .map(|mid| mid.to_string())
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=fingerprint:sha-256 {fingerprint}\r\n",
            mids.join(" ")
        );
        for (mid, section) in self.sections.iter().enumerate() {
            sdp += match (mid, section.video, self.firefox) {
                (0, _, _) => {
                    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n"
                }
                (_, false, false) => {
                    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
                }
                (_, false, true) => {
                    "m=audio 9 UDP/TLS/RTP/SAVPF 109 9\r\na=rtpmap:109 opus/48000/2\r\n"
                }
                (_, true, false) => {
                    "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtcp-fb:* nack\r\na=rtpmap:98 VP9/90000\r\n"
                }
                (_, true, true) => {
                    "m=video 9 UDP/TLS/RTP/SAVPF 120 124\r\na=rtpmap:120 VP8/90000\r\na=rtpmap:124 rtx/90000\r\na=fmtp:124 apt=120\r\n"
                }
            };
            let ice = format!(
                "a=mid:{mid}\r\na=setup:actpass\r\na=ice-ufrag:u{}\r\na=ice-pwd:password-password-password\r\n",
                self.restarts
            );
            sdp += &ice;
            if mid != 0 {
                sdp += match (section.up.is_some(), section.receives) {
                    (true, true) => "a=sendrecv\r\n",
                    (true, false) => "a=sendonly\r\n",
                    (false, true) => "a=recvonly\r\n",
                    (false, false) => "a=inactive\r\n",
                };
            }
        }
        sdp
    }

    fn deliver(&mut self) {
        let Some((sdp, sections)) = self.offer.take() else {
            return;
        };
        let publishing: BTreeMap<String, u64> = sections
            .iter()
            .enumerate()
            .filter_map(|(mid, section)| Some((mid.to_string(), section.up?)))
            .collect();
        let publishes: HashMap<Mid, Publish> = publishing
            .iter()
            .map(|(mid, up)| (Mid::from(mid.as_str()), publish(*up)))
            .collect();
        let offer = self.negotiator.parse_offer(&sdp).unwrap();
        assert_eq!(
            offer.sections.iter().filter(|s| s.sends).count(),
            publishing.len()
        );
        let answer = self
            .negotiator
            .answer(offer, &publishes, &mut self.random)
            .unwrap();

        // The receive plan is what is published.
        let received: BTreeMap<String, u64> = answer
            .receive
            .tracks
            .iter()
            .map(|track| (track.mid.as_str().to_owned(), track.up.0))
            .collect();
        assert_eq!(received, publishing);

        // Credentials change with the client's, and only then.
        let ufrag = self.negotiator.local().ufrag.clone();
        let restarts: u32 = field(&sdp, "a=ice-ufrag:u").unwrap().parse().unwrap();
        if let Some((before, old)) = &self.ufrag {
            assert_eq!(answer.restarted, *before != restarts);
            assert_eq!(*old != ufrag, answer.restarted);
        }
        self.ufrag = Some((restarts, ufrag));

        // What the room is told.
        for bound in &answer.bound {
            assert!(self.attached.contains(&bound.down.0));
            self.bound
                .insert(bound.down.0, bound.mid.as_str().to_owned());
        }
        for down in &answer.unbound {
            assert!(self.bound.remove(&down.0).is_some());
        }
        for down in &answer.refused {
            assert!(
                self.odd.contains(&down.0),
                "{down:?} is in a codec that every client has"
            );
            self.attached.remove(&down.0);
            self.bound.remove(&down.0);
        }
        for id in &self.attached {
            assert_eq!(
                self.negotiator.is_bound(DownTrackId(*id)),
                self.bound.contains_key(id)
            );
        }
        if answer.missing != (0, 0) {
            self.requests.push(answer.missing);
        }

        // What the client reads.
        let theirs: Vec<&str> = answer.sdp.split("\r\nm=").skip(1).collect();
        let ours: Vec<&str> = sdp.split("\r\nm=").skip(1).collect();
        assert_eq!(theirs.len(), ours.len());
        let mut map = BTreeMap::new();
        self.told.resize(theirs.len(), Told::Nothing);
        for (mid, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let now = read(theirs, ours, &sections[mid], mid);
            if let (Told::Track(old), Told::Track(new)) = (&self.told[mid], &now) {
                assert_eq!(old, new, "one track turned into another in one step");
            }
            if let Told::Track(track) = &now {
                assert!(
                    !map.values().any(|other| other == track),
                    "one track, two sections"
                );
                map.insert(mid.to_string(), track.clone());
            }
            self.told[mid] = now;
        }
        assert_eq!(map, answer.mid_to_track_id.into_iter().collect());
        let bound: BTreeMap<String, String> = self
            .bound
            .iter()
            .map(|(id, mid)| (mid.clone(), format!("TR_{id}")))
            .collect();
        assert_eq!(map, bound);
    }

    /// Everything that is under way arrives, and room and client follow their rules; it must come to rest soon.
    fn settle(&mut self) {
        self.step(&Op::Deliver);
        if self.lost {
            // Two offers without what was asked for, for any other reason: they show that it was not heard.
            for _ in 0..2 {
                self.step(&Op::Offer);
                self.step(&Op::Deliver);
            }
        }
        for round in 0.. {
            assert!(round < 20, "negotiation goes on and on");
            self.nudge(false);
            self.step(&Op::Hear);
            if !self.changed {
                break;
            }
            self.step(&Op::Offer);
            self.step(&Op::Deliver);
        }
    }
}

fn field<'a>(sdp: &'a str, key: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix(key))
}

/// One section of an answer, held against that of the offer.
fn read(theirs: &str, ours: &str, section: &Section, mid: usize) -> Told {
    let (their_m, our_m) = (theirs.lines().next().unwrap(), ours.lines().next().unwrap());
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (their_m, our_m) = (words(their_m), words(our_m));
    assert_eq!(their_m[..3], our_m[..3], "kind, port and protocol");
    assert!(
        their_m[3..].iter().all(|pt| our_m[3..].contains(pt)),
        "only what was offered"
    );
    assert!(their_m.len() > 3);
    assert_eq!(field(theirs, "a=mid:"), Some(mid.to_string().as_str()));
    if mid == 0 {
        return Told::Nothing;
    }
    let has = |flag: &str| theirs.lines().any(|line| line == flag);
    let sends = has("a=sendonly") || has("a=sendrecv");
    let receives = has("a=recvonly") || has("a=sendrecv");
    assert!(!sends || section.receives);
    assert_eq!(receives, section.up.is_some());
    let track = field(theirs, "a=msid:").map(|msid| msid.split(' ').nth(1).unwrap());
    match track {
        Some(track) => {
            assert!(sends);
            Told::Track(track.to_owned())
        }
        None if sends => Told::Nothing,
        None => Told::Inactive,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_subscription_is_lost_whatever_the_order(
        firefox in any::<bool>(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(firefox);
        for op in &ops {
            world.step(op);
        }
        world.settle();
        for id in &world.attached {
            prop_assert!(world.bound.contains_key(id), "track {} never got a section", id);
        }
        prop_assert!(!world.negotiator.waiting());
        // A publication that the room ends is no longer received.
        if let Some(track) = world.negotiator.receive().tracks.first() {
            let up: UpTrackId = track.up;
            world.negotiator.unpublish(up);
            prop_assert!(world.negotiator.receive().tracks.iter().all(|track| track.up != up));
        }
    }
}
