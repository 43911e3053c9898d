//! The room's promises, driven as its task drives it: requests and events in, messages and commands out.

mod admin;
mod agents;
mod backup_codec;
mod backup_life;
mod blob;
mod calls;
mod data;
mod dynacast;
mod forwarding;
mod leaving;
mod moving;
mod pacing;
mod publishing;
mod quality;
mod recording;
mod resuming;
mod simulating;
mod speaking;
mod subscribing;
mod walk;
mod webhooks;
mod workers;

use super::*;
use crate::ids::TransportId;
use crate::plan::{Channel, Proto};
use crate::protocol::join::{Join, Resume};
use crate::protocol::livekit::{
    AddTrackRequest, DataPacket, DisconnectReason, LeaveRequest, ReconnectReason, SignalRequest,
    TrackSource, TrackType, UpdateParticipantMetadata, UserPacket, data_packet, participant_info,
    request_response,
};
use crate::protocol::token::{Claims, VideoGrant};
use crate::secret::Secret;
use prost::Message as _;

/// A room with a clock of its own.
struct Lab {
    room: Room,
    now: Now,
    said: Vec<(SessionId, signal_response::Message)>,
    closed: Vec<SessionId>,
    commands: Vec<Command>,
    workers: workers::Workers,
    hooks: Vec<proto::WebhookEvent>,
    /// Of the newest of them.
    receivers: Arc<[Arc<str>]>,
    facts: Vec<Fact>,
    forwards: Vec<(ForwardId, Forwarding)>,
    guests: Vec<(ForwardId, Guesting)>,
    answers: Vec<(CallId, Result<Answer, CallError>)>,
    opened: Vec<TransportId>,
    sessions: u64,
    worker: WorkerId,
}

impl Lab {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let now = Now {
            at: Instant::now(),
            unix_us: 1_800_000_000_000_000,
        };
        let mut settings = Settings {
            defaults: Defaults::default(),
            limits: Limits::default(),
            keys: Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]),
            fingerprint: Fingerprint([7; 32]),
            lite: false,
            ice_servers: Vec::new(),
            node_id: "ND_test".to_owned(),
        };
        change(&mut settings);
        let mut lab = Self {
            room: Room::new(now, "lab", 1, settings, Random::seeded(1)),
            now,
            said: Vec::new(),
            closed: Vec::new(),
            commands: Vec::new(),
            workers: workers::Workers::default(),
            hooks: Vec::new(),
            receivers: Arc::default(),
            facts: Vec::new(),
            forwards: Vec::new(),
            guests: Vec::new(),
            answers: Vec::new(),
            opened: Vec::new(),
            sessions: 0,
            worker: WorkerId(0),
        };
        lab.room.start(now);
        lab.drain();
        lab
    }

    fn join_with(
        &mut self,
        identity: &str,
        change: impl FnOnce(&mut Join),
    ) -> Result<SessionId, JoinRefused> {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let mut join = Join {
            claims: Claims {
                sub: identity.to_owned(),
                exp: self.now.unix_s() + 60,
                video: Some(VideoGrant {
                    room_join: true,
                    room: "lab".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            api_key: "key".to_owned(),
            client: proto::ClientInfo::default(),
            protocol: 17,
            single_pc: true,
            auto_subscribe: true,
            auto_subscribe_data_track: true,
            adaptive_stream: false,
            subscriber_allow_pause: None,
            disable_ice_lite: false,
            metadata: String::new(),
            attributes: HashMap::new(),
            publish: None,
            add_tracks: Vec::new(),
            publisher_offer: None,
            resume: None,
        };
        change(&mut join);
        let place = Place {
            worker: self.worker,
            candidates: Arc::new([]),
        };
        let result = self.room.join(self.now, session, join, place);
        self.drain();
        result.map(|_| session)
    }

    fn join(&mut self, identity: &str) -> SessionId {
        self.join_with(identity, |_| {}).unwrap()
    }

    fn grant(&mut self, identity: &str, change: impl FnOnce(&mut VideoGrant)) -> SessionId {
        self.join_with(identity, |join| change(join.claims.video.as_mut().unwrap()))
            .unwrap()
    }

    fn drain(&mut self) {
        while let Some(output) = self.room.poll() {
            match output {
                Output::Signal(session, message) => {
                    self.said
                        .push((session, message.message().unwrap().clone()));
                }
                Output::Webhook(event, extra) => {
                    self.hooks.push(*event);
                    self.receivers = extra;
                }
                Output::Agent(fact) => self.facts.push(*fact),
                Output::Forward(id, told) => self.forwards.push((id, told)),
                Output::Guest(id, told) => self.guests.push((id, told)),
                Output::Close(session) => self.closed.push(session),
                Output::Answer(id, answer) => self.answers.push((id, *answer)),
                Output::Net(worker, RoomCommand::Open { id, channels, .. }) => {
                    self.workers.open(worker, id, channels);
                    self.opened.push(id);
                }
                Output::Net(worker, RoomCommand::Plain(command)) => {
                    self.workers.take(worker, &command);
                    self.commands.push(command);
                }
            }
        }
    }

    fn request(&mut self, session: SessionId, message: signal_request::Message) {
        self.room.handle_request(
            self.now,
            session,
            SignalRequest {
                message: Some(message),
            },
        );
        self.drain();
    }

    fn event(&mut self, event: Event) {
        if let Event::DownClosed { down, .. } = &event {
            self.workers.end_down(*down);
        }
        self.room.handle_event(self.now, event);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.at + time;
        for _ in 0..1000 {
            let Some(at) = self.room.next_timeout().filter(|at| *at <= end) else {
                break;
            };
            self.advance_to(at);
            self.room.handle_timeout(self.now);
            self.drain();
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, at: Instant) {
        self.now.unix_us += (at - self.now.at).as_micros() as u64;
        self.now.at = at;
    }

    /// Makes the transport that was opened last work, data channels and all.
    fn connect(&mut self) -> TransportId {
        let id = *self.opened.last().unwrap();
        let remote = "127.0.0.1:9999".parse().unwrap();
        self.event(Event::Connected {
            id,
            proto: Proto::Udp,
            remote,
        });
        if self.workers.tells_open(id) {
            self.event(Event::ChannelOpen { id });
        }
        id
    }

    /// What a session was told since the last call.
    fn heard(&mut self, session: SessionId) -> Vec<signal_response::Message> {
        let (mine, rest) = std::mem::take(&mut self.said)
            .into_iter()
            .partition(|(to, _)| *to == session);
        self.said = rest;
        mine.into_iter().map(|(_, message)| message).collect()
    }

    fn kinds(&mut self, session: SessionId) -> Vec<&'static str> {
        self.heard(session).iter().map(kind).collect()
    }
}

fn kind(message: &signal_response::Message) -> &'static str {
    match message {
        signal_response::Message::Join(_) => "join",
        signal_response::Message::RefreshToken(_) => "refresh_token",
        signal_response::Message::Update(_) => "update",
        signal_response::Message::Leave(_) => "leave",
        signal_response::Message::Reconnect(_) => "reconnect",
        signal_response::Message::RoomUpdate(_) => "room_update",
        signal_response::Message::TrackPublished(_) => "track_published",
        signal_response::Message::RequestResponse(_) => "request_response",
        signal_response::Message::Offer(_) => "offer",
        signal_response::Message::DataTrackSubscriberHandles(_) => "handles",
        signal_response::Message::PublishDataTrackResponse(_) => "data_track",
        _ => "other",
    }
}

fn camera() -> AddTrackRequest {
    AddTrackRequest {
        cid: "c1".to_owned(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        width: 1280,
        height: 720,
        ..Default::default()
    }
}

#[test]
fn a_join_is_answered_by_join_and_a_fresh_token() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let heard = lab.heard(alice);
    let signal_response::Message::Join(join) = &heard[0] else {
        panic!("{heard:?}")
    };
    let me = join.participant.as_ref().unwrap();
    assert_eq!(
        (me.identity.as_str(), me.state(), me.version),
        ("alice", participant_info::State::Joining, 0)
    );
    assert_eq!(
        (join.ping_interval, join.ping_timeout, join.fast_publish),
        (5, 15, true)
    );
    assert_eq!(join.server_info.as_ref().unwrap().version, "1.13.5");
    let publish: Vec<&str> = join
        .enabled_publish_codecs
        .iter()
        .map(|c| c.mime.as_str())
        .collect();
    assert_eq!(
        publish,
        [
            "video/VP8",
            "video/H264",
            "video/VP9",
            "video/AV1",
            "video/H265",
            "audio/PCMU",
            "audio/PCMA",
            "audio/opus",
            "audio/red"
        ]
    );
    let signal_response::Message::RefreshToken(token) = &heard[1] else {
        panic!("{heard:?}")
    };
    let keys = Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]);
    let (claims, key) = crate::protocol::token::verify(lab.now.unix_s(), token, &keys).unwrap();
    assert_eq!((claims.sub.as_str(), key.as_str()), ("alice", "key"));
    assert!(
        claims.exp >= lab.now.unix_s() + 600,
        "a token of a minute is good for ten more"
    );
}

#[test]
fn a_client_is_offered_no_codec_that_it_is_told_is_disabled() {
    use crate::negotiate::Role;
    use crate::plan::Codec;

    let mut lab = Lab::new();
    let safari = lab.join_with("safari", |join| {
        join.client.browser = "safari".to_owned();
        join.client.browser_version = "18.4".to_owned();
        join.single_pc = false;
    });
    let safari = safari.unwrap();
    let signal_response::Message::Join(join) = &lab.heard(safari)[0] else {
        panic!()
    };
    let disabled = join.client_configuration.as_ref().unwrap();
    let disabled = disabled.disabled_codecs.as_ref().unwrap();
    assert_eq!(disabled.codecs[0].mime, "video/AV1");
    assert_eq!(disabled.publish[0].mime, "video/VP9");
    let publish = join.enabled_publish_codecs.iter();
    let publish: Vec<&str> = publish.map(|codec| codec.mime.as_str()).collect();
    assert_eq!(publish[..3], ["video/VP8", "video/H264", "video/H265"]);
    // And in SDP: neither way, or not from it.
    let seat = lab.room.identities["safari"];
    let has = |role, codec| {
        let codecs = lab.room.codecs_of(&lab.room.participants[&seat], role);
        codecs.contains(&codec)
    };
    for (role, vp9) in [
        (Role::Publisher, false),
        (Role::Subscriber, true),
        (Role::Single, true),
    ] {
        let both = (has(role, Codec::Av1), has(role, Codec::Vp9));
        assert_eq!(both, (false, vp9), "{role:?}");
    }
}

#[test]
fn a_newcomer_finds_those_present_and_they_hear_of_it_at_the_next_beat() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    lab.heard(alice);
    let bob = lab.join("bob");
    let signal_response::Message::Join(join) = &lab.heard(bob)[0] else {
        panic!()
    };
    assert_eq!(join.other_participants.len(), 1);
    assert_eq!(join.other_participants[0].identity, "alice");
    assert!(
        lab.heard(alice).is_empty(),
        "nobody who does not publish is announced at once"
    );
    lab.wait(Duration::from_secs(3));
    let heard = lab.heard(alice);
    let identities: Vec<String> = heard
        .iter()
        .filter_map(|message| match message {
            signal_response::Message::Update(update) => Some(update),
            _ => None,
        })
        .flat_map(|update| update.participants.iter().map(|p| p.identity.clone()))
        .collect();
    assert!(identities.contains(&"bob".to_owned()), "{heard:?}");
}

#[test]
fn a_hidden_participant_is_seen_by_nobody() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let ghost = lab.grant("ghost", |grant| grant.hidden = true);
    lab.connect();
    let bob = lab.join("bob");
    let signal_response::Message::Join(join) = &lab.heard(bob)[0] else {
        panic!()
    };
    assert_eq!(join.other_participants.len(), 1);
    lab.wait(Duration::from_secs(4));
    for (session, message) in &lab.said {
        if let signal_response::Message::Update(update) = message {
            let shown = update.participants.iter().any(|p| p.identity == "ghost");
            assert!(!shown || *session == ghost, "{session:?}");
        }
    }
    assert!(lab.kinds(ghost).contains(&"update"));
    lab.heard(alice);
}

#[test]
fn the_same_identity_replaces_the_one_before_without_a_farewell_to_others() {
    let mut lab = Lab::new();
    let watcher = lab.join("watcher");
    let first = lab.join("alice");
    lab.connect();
    lab.wait(Duration::from_secs(6));
    lab.heard(watcher);
    lab.heard(first);
    let second = lab.join("alice");
    let heard = lab.heard(first);
    let Some(signal_response::Message::Leave(leave)) = heard.last() else {
        panic!("{heard:?}")
    };
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(lab.closed, [first]);
    assert_eq!(lab.kinds(second)[0], "join");
    lab.wait(Duration::from_secs(4));
    for message in lab.heard(watcher) {
        if let signal_response::Message::Update(update) = message {
            assert!(
                update
                    .participants
                    .iter()
                    .all(|p| p.state() != participant_info::State::Disconnected)
            );
        }
    }
}

#[test]
fn a_full_room_refuses_people_but_not_who_was_there_before() {
    let mut lab = Lab::with(|settings| settings.defaults.max_participants = 1);
    lab.join("alice");
    assert_eq!(lab.join_with("bob", |_| {}), Err(JoinRefused::Full(1)));
    assert!(lab.join_with("alice", |_| {}).is_ok());
    let agent = lab.join_with("agent", |join| join.claims.kind = "agent".to_owned());
    assert!(agent.is_ok(), "agents do not count");
}

#[test]
fn a_resume_that_finds_nobody_is_told_to_come_back_as_new() {
    let mut lab = Lab::new();
    let session = lab
        .join_with("alice", |join| {
            join.resume = Some(Resume {
                participant_sid: "PA_x".to_owned(),
                reason: ReconnectReason::RrUnknown,
                sync_state: None,
            });
        })
        .unwrap();
    let heard = lab.heard(session);
    let [signal_response::Message::Leave(leave)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(lab.closed, [session]);
    assert!(lab.room.is_empty());
}

#[test]
fn whoever_never_connects_is_gone_after_a_minute_and_whoever_vanishes_within_five_seconds() {
    let mut lab = Lab::new();
    lab.join("alice");
    lab.wait(Duration::from_secs(59));
    assert_eq!(lab.room.len(), 1);
    lab.wait(Duration::from_secs(2));
    assert!(lab.room.is_empty());
    lab.join("bob");
    let id = lab.connect();
    lab.wait(Duration::from_secs(90));
    assert_eq!(lab.room.len(), 1);
    lab.event(Event::Disconnected { id });
    lab.wait(Duration::from_secs(5));
    assert!(lab.room.is_empty());
}

#[test]
fn an_empty_room_ends_after_its_departure_timeout() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.request(
        alice,
        signal_request::Message::Leave(LeaveRequest::default()),
    );
    lab.wait(Duration::from_secs(19));
    assert!(!lab.room.is_finished());
    lab.wait(Duration::from_secs(2));
    assert!(lab.room.is_finished());
}

#[test]
fn a_track_is_published_only_with_the_right_to_its_source() {
    let mut lab = Lab::new();
    let alice = lab.grant("alice", |grant| {
        grant.can_publish_sources = vec!["microphone".to_owned()];
    });
    lab.heard(alice);
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    let heard = lab.heard(alice);
    let [signal_response::Message::RequestResponse(refusal)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(refusal.reason(), request_response::Reason::NotAllowed);
    let source = TrackSource::Microphone as i32;
    let microphone = AddTrackRequest {
        cid: "m".to_owned(),
        source,
        ..Default::default()
    };
    lab.request(alice, signal_request::Message::AddTrack(microphone));
    let heard = lab.heard(alice);
    let [signal_response::Message::TrackPublished(published)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert!(published.track.as_ref().unwrap().sid.starts_with("TR_AM"));
    assert_eq!(published.track.as_ref().unwrap().stream, "camera");
}

#[test]
fn a_right_to_sources_that_do_not_exist_is_a_right_to_none() {
    let mut lab = Lab::new();
    let alice = lab.grant("alice", |grant| {
        grant.can_publish_sources = vec!["screenshare".to_owned()];
    });
    for source in [TrackSource::ScreenShare, TrackSource::Unknown] {
        lab.heard(alice);
        let track = AddTrackRequest {
            source: source as i32,
            ..camera()
        };
        lab.request(alice, signal_request::Message::AddTrack(track));
        assert_eq!(lab.kinds(alice), ["request_response"]);
    }
}

#[test]
fn tracks_that_no_offer_carries_are_bounded() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.heard(alice);
    for number in 0..25 {
        let cid = format!("c{number}");
        lab.request(
            alice,
            signal_request::Message::AddTrack(AddTrackRequest { cid, ..camera() }),
        );
    }
    let kinds = lab.kinds(alice);
    assert_eq!(
        kinds.iter().filter(|k| **k == "track_published").count(),
        20
    );
    assert_eq!(
        kinds.iter().filter(|k| **k == "request_response").count(),
        5
    );
}

#[test]
fn own_metadata_is_told_to_all_then_signed_then_confirmed() {
    let mut lab = Lab::new();
    let alice = lab.grant("alice", |grant| grant.can_update_own_metadata = Some(true));
    let bob = lab.join("bob");
    lab.heard(alice);
    lab.heard(bob);
    let update = UpdateParticipantMetadata {
        name: "Alice A.".to_owned(),
        request_id: 3,
        attributes: HashMap::from([
            ("lang".to_owned(), "en".to_owned()),
            ("x".to_owned(), String::new()),
        ]),
        ..Default::default()
    };
    lab.request(
        alice,
        signal_request::Message::UpdateMetadata(update.clone()),
    );
    assert_eq!(
        lab.kinds(alice),
        ["update", "refresh_token", "request_response"]
    );
    let heard = lab.heard(bob);
    let [signal_response::Message::Update(told)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(told.participants[0].name, "Alice A.");
    assert_eq!(
        told.participants[0].attributes,
        HashMap::from([("lang".to_owned(), "en".to_owned())])
    );
    lab.request(bob, signal_request::Message::UpdateMetadata(update));
    let heard = lab.heard(bob);
    let [signal_response::Message::RequestResponse(refusal)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(refusal.reason(), request_response::Reason::NotAllowed);
    assert_eq!(refusal.request_id, 3);
}

#[test]
fn a_stop_tells_everybody_to_come_back() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.heard(alice);
    lab.room.shut_down(lab.now);
    lab.drain();
    let heard = lab.heard(alice);
    let Some(signal_response::Message::Leave(leave)) = heard.first() else {
        panic!("{heard:?}")
    };
    assert_eq!(leave.reason(), DisconnectReason::ServerShutdown);
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert!(lab.room.is_finished());
}

#[test]
fn a_token_is_made_anew_every_five_minutes() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    lab.wait(Duration::from_secs(299));
    lab.heard(alice);
    lab.wait(Duration::from_secs(302));
    let kinds = lab.kinds(alice);
    assert_eq!(kinds, ["refresh_token", "refresh_token"]);
}

#[test]
fn a_device_that_insists_on_an_ice_server_is_told_our_own_port() {
    use crate::plan::{LocalCandidate, Proto};

    let mut lab = Lab::new();
    lab.join_with("device", |join| {
        join.client.sdk = proto::client_info::Sdk::Esp32 as i32;
    })
    .unwrap();
    lab.join("browser");
    let own = |proto, address: &str| LocalCandidate {
        proto,
        address: address.parse().unwrap(),
        preference: 1,
    };
    let (udp, tcp) = (Proto::Udp, Proto::Tcp);
    let every = [
        own(tcp, "192.0.2.5:7881"),
        own(udp, "[2001:db8::5]:7882"),
        own(udp, "192.0.2.5:7882"),
    ];
    let mut told = |identity: &str, candidates: &[LocalCandidate]| -> Vec<String> {
        let seat = lab.room.identities[identity];
        let participant = lab.room.participants.get_mut(&seat).unwrap();
        participant.candidates = candidates.into();
        let servers = lab.room.ice_servers(lab.now, &lab.room.participants[&seat]);
        servers.into_iter().flat_map(|server| server.urls).collect()
    };
    assert_eq!(told("device", &every), ["stun:192.0.2.5:7882"]);
    assert_eq!(told("device", &every[..2]), ["stun:[2001:db8::5]:7882"]);
    assert!(told("device", &every[..1]).is_empty());
    assert!(told("browser", &every).is_empty());
}
