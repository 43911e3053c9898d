//! Random days of a room. Whatever its clients do, in whatever order: workers are told nothing that makes no sense, all
//! who are there see the same, and when they have gone nothing is left.

mod client;

use super::*;
use crate::ids::{Identity, Ssrc};
use crate::plan::{Codec, Format, Kind};
use crate::protocol::livekit::{
    DataPacket, MuteRoomTrackRequest, MuteTrackRequest, ParticipantInfo, ParticipantPermission,
    PublishDataTrackRequest, RoomParticipantIdentity, SubscriptionPermission, TrackPermission,
    UnpublishDataTrackRequest, UpdateParticipantRequest, UpdateSubscription, UpdateTrackSettings,
    UserPacket, data_packet,
};
use crate::room::pacing::Pace;
use client::Client;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const IDENTITIES: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Most of what is put off is told by then.
const QUIET: Duration = Duration::from_secs(12);
/// A session without pings is given up.
const UNNOTICED: Duration = Duration::from_secs(35);

/// What somebody does; `who` counts [`IDENTITIES`], other numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
enum Act {
    Join {
        single: bool,
        auto: bool,
        right: u8,
        worker: u8,
    },
    /// Its WebSocket ends.
    Lose,
    /// The same, but the server has yet to notice.
    Fade,
    Resume,
    Leave,
    Connect(usize),
    Disconnect(usize),
    /// Its side of a connection closes.
    Close(usize),
    Add {
        video: bool,
        simulcast: bool,
    },
    Offer,
    Restart,
    Answer,
    Stop(usize),
    Mute(usize, bool),
    Subscribe(usize, bool),
    Set {
        track: usize,
        disabled: bool,
        quality: i32,
    },
    Restrict {
        all: bool,
        whom: usize,
    },
    Rename(u8),
    PublishData(u8),
    UnpublishData(u8),
    /// By the application's server.
    Permit(u8),
    Remove,
    MuteByAdmin(usize),
    /// Pictures of a video come.
    Send(usize),
    /// A microphone is as loud as this, in tenths.
    Speak(usize, u8),
    /// The first packet of a track has left for it.
    Get(usize),
    /// It sends a message, to all or to one.
    Tell(Option<usize>),
    /// Messages wait for it, or do no longer.
    Lag(bool),
}

#[derive(Debug, Clone)]
enum Step {
    Act(usize, Act),
    /// Everybody connects, answers, and offers what there is to offer, as real clients do at once.
    Work,
    Wait(u64),
    Settle,
}

fn act() -> impl Strategy<Value = Act> {
    let any_place = any::<usize>;
    prop_oneof![
        4 => (any::<bool>(), prop::bool::weighted(0.7), right(), 0..2_u8)
            .prop_map(|(single, auto, right, worker)| Act::Join { single, auto, right, worker }),
        1 => Just(Act::Lose),
        1 => Just(Act::Fade),
        3 => Just(Act::Resume),
        1 => Just(Act::Leave),
        2 => any_place().prop_map(Act::Connect),
        1 => any_place().prop_map(Act::Disconnect),
        1 => any_place().prop_map(Act::Close),
        12 => (any::<bool>(), any::<bool>()).prop_map(|(video, simulcast)| Act::Add { video, simulcast }),
        2 => Just(Act::Offer),
        1 => Just(Act::Restart),
        2 => Just(Act::Answer),
        2 => any_place().prop_map(Act::Stop),
        2 => (any_place(), any::<bool>()).prop_map(|(track, muted)| Act::Mute(track, muted)),
        6 => (any_place(), any::<bool>()).prop_map(|(track, on)| Act::Subscribe(track, on)),
        2 => (any_place(), any::<bool>(), 0..4)
            .prop_map(|(track, disabled, quality)| Act::Set { track, disabled, quality }),
        1 => (any::<bool>(), any_place()).prop_map(|(all, whom)| Act::Restrict { all, whom }),
        1 => any::<u8>().prop_map(Act::Rename),
        1 => (0..3_u8).prop_map(Act::PublishData),
        1 => (0..3_u8).prop_map(Act::UnpublishData),
        3 => right().prop_map(Act::Permit),
        1 => Just(Act::Remove),
        1 => any_place().prop_map(Act::MuteByAdmin),
        6 => any_place().prop_map(Act::Send),
        4 => (any_place(), 0..11_u8).prop_map(|(place, level)| Act::Speak(place, level)),
        3 => any_place().prop_map(Act::Get),
        4 => prop::option::of(any_place()).prop_map(Act::Tell),
        3 => prop::bool::weighted(0.7).prop_map(Act::Lag),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..IDENTITIES.len(), act()).prop_map(|(who, act)| Step::Act(who, act)),
        15 => Just(Step::Work),
        4 => (0..1500_u64).prop_map(Step::Wait),
        1 => Just(Step::Settle),
    ]
}

/// A number for [`permission`].
fn right() -> impl Strategy<Value = u8> {
    prop_oneof![1 => Just(2), 3 => 0..12_u8]
}

/// Most may do everything.
fn permission(right: u8) -> ParticipantPermission {
    ParticipantPermission {
        can_publish: right != 1,
        can_subscribe: right != 2,
        can_publish_data: right != 4,
        can_update_metadata: true,
        hidden: right == 3,
        ..Default::default()
    }
}

struct World {
    lab: Lab,
    clients: BTreeMap<usize, Client>,
    /// WebSockets that are dead, and when the server notices.
    faded: Vec<(Instant, SessionId)>,
}

fn pick<T>(place: usize, mut all: Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(place % all.len()))
}

impl World {
    fn new() -> Self {
        Self {
            lab: Lab::new(),
            clients: BTreeMap::new(),
            faded: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Act(who, act) => self.act(*who, act),
            Step::Work => {
                for who in 0..IDENTITIES.len() {
                    self.work(who);
                }
            }
            Step::Wait(ms) => self.wait(Duration::from_millis(*ms)),
            Step::Settle => self.settle(),
        }
        self.hear();
        self.check_room();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.lab.now.at + time;
        // In the order in which they died.
        while self.faded.first().is_some_and(|(at, _)| *at <= end) {
            let (at, session) = self.faded.remove(0);
            self.lab.wait(at.saturating_duration_since(self.lab.now.at));
            self.lab.room.handle_gone(self.lab.now, session);
            self.lab.drain();
        }
        self.lab.wait(end - self.lab.now.at);
        self.hear();
        // A worker says so within 200 ms.
        let closing = self.lab.workers.downs.iter();
        let closing: Vec<_> = closing
            .filter_map(|(id, down)| down.is_closing.then_some(*id))
            .collect();
        for down in closing {
            self.lab.event(Event::DownClosed { down, sent: true });
        }
    }

    fn settle(&mut self) {
        self.wait(QUIET);
        // Somebody's time may have just run out.
        while self.lab.room.update.next_timeout().is_some() {
            self.wait(Duration::from_secs(1));
        }
        self.check_views();
        for _ in 0..8 {
            self.step(&Step::Work);
            self.wait(Duration::from_secs(1));
        }
        self.check_flows();
        self.check_speakers();
    }

    /// Everybody hears those who speak whose tracks it has.
    fn check_speakers(&mut self) {
        for up in self.microphones() {
            self.lab.event(Event::AudioLevel { up, level: 1.0 });
        }
        self.lab.wait(Duration::from_millis(500));
        self.hear();
        let room = &self.lab.room;
        for client in self.clients.values().filter(|c| c.session.is_some()) {
            let seat = room.identities[client.identity.as_str()];
            let speaks = |p: &&Participant| {
                let mut tracks = p.tracks.values();
                tracks.any(|track| {
                    let is_received = self.lab.workers.ups.contains_key(&track.primary.up);
                    track.kind == Kind::Audio && !track.info.muted && is_received
                })
            };
            let hears = |p: &&Participant| {
                let has = |sid: &TrackSid| {
                    let mut downs = room.downs.values();
                    downs.any(|owner| owner.subscriber == seat && owner.track == *sid)
                };
                p.seat == seat || (!p.permission.hidden && p.tracks.keys().any(has))
            };
            let speakers = room.participants.values().filter(speaks).filter(hears);
            let speakers: BTreeSet<String> = speakers.map(|p| p.sid.as_str().to_owned()).collect();
            assert_eq!(client.speaking, speakers, "whom {} hears", client.identity);
        }
    }

    /// Hands what was said to those it was said to.
    fn hear(&mut self) {
        for (session, message) in std::mem::take(&mut self.lab.said) {
            let mut clients = self.clients.values_mut();
            if let Some(client) = clients.find(|client| client.session == Some(session)) {
                client.hear(message);
            }
        }
        let closed = std::mem::take(&mut self.lab.closed);
        self.clients.retain(|_, client| {
            if client
                .session
                .is_some_and(|session| closed.contains(&session))
            {
                client.session = None;
            }
            !client.is_over
        });
    }

    /// The connections of a client that its worker has.
    fn transports(&self, who: usize) -> Vec<TransportId> {
        let room = &self.lab.room;
        let seat = room.identities.get(IDENTITIES[who]);
        let participant = seat.and_then(|seat| room.participants.get(seat));
        let connections = participant.into_iter().flat_map(Participant::connections);
        connections
            .map(|connection| connection.transport)
            .filter(|id| self.lab.workers.is_open(*id))
            .collect()
    }

    /// The tracks that a client knows of others, or its own.
    fn tracks(&self, who: usize, is_own: bool) -> Vec<String> {
        let Some(client) = self.clients.get(&who) else {
            return Vec::new();
        };
        let infos = client.view.values();
        infos
            .filter(|info| (info.identity == client.identity) == is_own)
            .flat_map(|info| info.tracks.iter().map(|track| track.sid.clone()))
            .collect()
    }

    fn say(&mut self, who: usize, message: signal_request::Message) {
        let session = self.clients.get(&who).and_then(|client| client.session);
        if let Some(session) = session {
            self.lab.request(session, message);
        }
    }

    fn call(&mut self, call: Call) {
        // Whoever is asked for may not be there.
        self.lab.call(call).ok();
    }

    fn act(&mut self, who: usize, act: &Act) {
        let identity = IDENTITIES[who];
        match *act {
            Act::Join {
                single,
                auto,
                right,
                worker,
            } => self.join(who, single, auto, right, worker),
            Act::Lose => {
                let client = self.clients.get_mut(&who);
                if let Some(session) = client.and_then(|client| client.session.take()) {
                    self.lab.room.handle_gone(self.lab.now, session);
                    self.lab.drain();
                }
            }
            Act::Fade => {
                let client = self.clients.get_mut(&who);
                if let Some(session) = client.and_then(|client| client.session.take()) {
                    self.faded.push((self.lab.now.at + UNNOTICED, session));
                }
            }
            Act::Resume => self.resume(who),
            Act::Leave => {
                self.say(who, signal_request::Message::Leave(LeaveRequest::default()));
            }
            Act::Connect(place) => self.connect(who, place),
            Act::Disconnect(place) => {
                if let Some(id) = pick(place, self.transports(who)) {
                    self.lab.event(Event::Disconnected { id });
                }
            }
            Act::Close(place) => {
                if let Some(id) = pick(place, self.transports(who)) {
                    self.lab.event(Event::Closed { id });
                }
            }
            Act::Add { video, simulcast } => {
                if let Some(client) = self.clients.get_mut(&who)
                    && client.session.is_some()
                {
                    let request = client.add_track(video, simulcast);
                    self.say(who, signal_request::Message::AddTrack(request));
                }
            }
            Act::Offer | Act::Restart => {
                let Some(client) = self.clients.get_mut(&who) else {
                    return;
                };
                if matches!(act, Act::Restart) {
                    client.restart();
                }
                let offer = client.offer();
                self.say(who, signal_request::Message::Offer(offer));
            }
            Act::Answer => {
                let client = self.clients.get_mut(&who);
                if let Some(answer) = client.and_then(Client::answer) {
                    self.say(who, signal_request::Message::Answer(answer));
                }
            }
            Act::Stop(place) => {
                if let Some(client) = self.clients.get_mut(&who)
                    && !client.sections.is_empty()
                {
                    let place = place % client.sections.len();
                    client.sections[place].sends = None;
                }
            }
            Act::Mute(place, muted) => {
                if let Some(sid) = pick(place, self.tracks(who, true)) {
                    let mute = MuteTrackRequest { sid, muted };
                    self.say(who, signal_request::Message::Mute(mute));
                }
            }
            Act::Subscribe(place, subscribe) => {
                if let Some(sid) = pick(place, self.tracks(who, false)) {
                    let client = self.clients.get_mut(&who).unwrap();
                    if client.session.is_none() {
                        return;
                    }
                    client.wishes.insert(sid.clone(), subscribe);
                    let update = UpdateSubscription {
                        track_sids: vec![sid],
                        subscribe,
                        ..Default::default()
                    };
                    self.say(who, signal_request::Message::Subscription(update));
                }
            }
            Act::Set {
                track,
                disabled,
                quality,
            } => {
                if let Some(sid) = pick(track, self.tracks(who, false)) {
                    let settings = UpdateTrackSettings {
                        track_sids: vec![sid],
                        disabled,
                        quality,
                        ..Default::default()
                    };
                    self.say(who, signal_request::Message::TrackSetting(settings));
                }
            }
            Act::Restrict { all, whom } => {
                let permission = TrackPermission {
                    participant_identity: IDENTITIES[whom % IDENTITIES.len()].to_owned(),
                    all_tracks: true,
                    ..Default::default()
                };
                let rule = SubscriptionPermission {
                    all_participants: all,
                    track_permissions: vec![permission],
                };
                self.say(who, signal_request::Message::SubscriptionPermission(rule));
            }
            Act::Rename(number) => {
                let update = UpdateParticipantMetadata {
                    name: format!("{identity} {number}"),
                    ..Default::default()
                };
                self.say(who, signal_request::Message::UpdateMetadata(update));
            }
            Act::PublishData(number) => {
                let request = PublishDataTrackRequest {
                    pub_handle: u32::from(number) + 1,
                    name: format!("data {number}"),
                    ..Default::default()
                };
                self.say(
                    who,
                    signal_request::Message::PublishDataTrackRequest(request),
                );
            }
            Act::UnpublishData(number) => {
                let request = UnpublishDataTrackRequest {
                    pub_handle: u32::from(number) + 1,
                };
                self.say(
                    who,
                    signal_request::Message::UnpublishDataTrackRequest(request),
                );
            }
            Act::Permit(right) => self.call(Call::UpdateParticipant(UpdateParticipantRequest {
                room: "lab".to_owned(),
                identity: identity.to_owned(),
                permission: Some(permission(right)),
                ..Default::default()
            })),
            Act::Remove => self.call(Call::RemoveParticipant(RoomParticipantIdentity {
                room: "lab".to_owned(),
                identity: identity.to_owned(),
                revoke_token_ts: 0,
            })),
            Act::MuteByAdmin(place) => {
                if let Some(track_sid) = pick(place, self.tracks(who, true)) {
                    self.call(Call::MutePublishedTrack(MuteRoomTrackRequest {
                        room: "lab".to_owned(),
                        identity: identity.to_owned(),
                        track_sid,
                        muted: true,
                    }));
                }
            }
            Act::Send(place) => self.send(place),
            Act::Speak(place, level) => {
                if let Some(up) = pick(place, self.microphones()) {
                    let level = f32::from(level) / 10.0;
                    self.lab.event(Event::AudioLevel { up, level });
                }
            }
            Act::Get(place) => {
                let downs = self.lab.workers.downs.iter();
                let live = downs.filter(|(_, down)| !down.is_closing);
                if let Some(down) = pick(place, live.map(|(id, _)| *id).collect()) {
                    self.lab.event(Event::DownStarted { down });
                }
            }
            Act::Tell(whom) => self.tell(who, whom),
            Act::Lag(behind) => {
                let seat = self.lab.room.identities.get(identity).copied();
                let participant = seat.and_then(|seat| self.lab.room.participant(seat));
                let connection = participant.and_then(Participant::data_connection);
                if let Some(id) = connection.map(|connection| connection.transport) {
                    self.lab.event(Event::Behind { id, behind });
                }
            }
        }
    }

    fn tell(&mut self, who: usize, whom: Option<usize>) {
        let seat = self.lab.room.identities.get(IDENTITIES[who]).copied();
        let participant = seat.and_then(|seat| self.lab.room.participant(seat));
        let Some(main) = participant.and_then(|participant| participant.main.as_ref()) else {
            return;
        };
        let id = main.transport;
        let names = whom.map(|whom| IDENTITIES[whom % IDENTITIES.len()].to_owned());
        let packet = DataPacket {
            destination_identities: names.into_iter().collect(),
            value: Some(data_packet::Value::User(UserPacket::default())),
            ..Default::default()
        };
        self.lab.event(Event::Data {
            id,
            channel: Channel::Reliable,
            payload: packet.encode_to_vec().into(),
        });
    }

    fn join(&mut self, who: usize, single: bool, auto: bool, right: u8, worker: u8) {
        let mut client = Client::new(IDENTITIES[who], single);
        client.is_auto = auto;
        let offer = single.then(|| client.offer());
        self.lab.worker = WorkerId(worker);
        let session = self.lab.join_with(IDENTITIES[who], |join| {
            join.single_pc = single;
            join.auto_subscribe = auto;
            join.publisher_offer = offer;
            let permission = permission(right);
            let grant = join.claims.video.as_mut().unwrap();
            grant.can_publish = Some(permission.can_publish);
            grant.can_subscribe = Some(permission.can_subscribe);
            grant.can_publish_data = Some(permission.can_publish_data);
            grant.can_update_own_metadata = Some(true);
            grant.hidden = permission.hidden;
        });
        let session = session.unwrap();
        let told = self.lab.heard(session);
        // The one before hears that it is replaced.
        self.hear();
        client.session = Some(session);
        for message in told {
            client.hear(message);
        }
        self.clients.insert(who, client);
    }

    fn resume(&mut self, who: usize) {
        let Some(client) = self.clients.get(&who) else {
            return;
        };
        let resume = Resume {
            participant_sid: client.sid.clone(),
            reason: ReconnectReason::RrSignalDisconnected,
            sync_state: None,
        };
        let is_single = client.is_single;
        let session = self.lab.join_with(IDENTITIES[who], |join| {
            join.single_pc = is_single;
            join.resume = Some(resume);
        });
        let session = session.unwrap();
        let client = self.clients.get_mut(&who).unwrap();
        client.session = Some(session);
        client.renew();
        // The session before it was closed, if there was one.
        self.lab.closed.retain(|closed| *closed == session);
        self.hear();
    }

    fn work(&mut self, who: usize) {
        self.act(who, &Act::Answer);
        if self.clients.get(&who).is_some_and(Client::has_to_offer) {
            self.act(who, &Act::Offer);
        }
        for place in 0..self.transports(who).len() {
            self.act(who, &Act::Connect(place));
        }
        self.hear();
    }

    fn connect(&mut self, who: usize, place: usize) {
        let Some(id) = pick(place, self.transports(who)) else {
            return;
        };
        let remote = "127.0.0.1:9999".parse().unwrap();
        self.lab.event(Event::Connected {
            id,
            proto: Proto::Udp,
            remote,
        });
        if self.lab.workers.tells_open(id) {
            self.lab.event(Event::ChannelOpen { id });
        }
    }

    fn send(&mut self, place: usize) {
        let ups = self.lab.workers.ups.iter();
        let videos = ups.filter(|(_, (_, kind))| *kind == Kind::Video);
        let Some(up) = pick(place, videos.map(|(up, _)| *up).collect()) else {
            return;
        };
        let format = Format {
            codec: Codec::Vp8,
            variant: 0,
        };
        self.lab.event(Event::LayerSeen {
            up,
            spatial: (place % 3) as u8,
            ssrc: Ssrc(place as u32 | 1),
            format,
        });
    }

    fn microphones(&self) -> Vec<UpTrackId> {
        let ups = self.lab.workers.ups.iter();
        let audio = ups.filter(|(_, (_, kind))| *kind == Kind::Audio);
        audio.map(|(up, _)| *up).collect()
    }

    /// Who is there, as everybody is to know it.
    fn truth(&self, viewer: &str) -> BTreeMap<String, ParticipantInfo> {
        let everybody = self.lab.room.participants.values();
        everybody
            .filter(|p| !p.permission.hidden || p.identity.as_str() == viewer)
            .map(|p| (p.identity.as_str().to_owned(), p.info()))
            .collect()
    }

    fn check_views(&self) {
        for client in self.clients.values() {
            if client.session.is_some() {
                let truth = self.truth(&client.identity);
                for (identity, info) in &truth {
                    let seen = client.view.get(identity);
                    assert_eq!(seen, Some(info), "what {} sees", client.identity);
                }
                let seen: Vec<&String> = client.view.keys().collect();
                let present: Vec<&String> = truth.keys().collect();
                assert_eq!(seen, present, "whom {} sees", client.identity);
                assert!(client.speaking.is_empty(), "{}", client.identity);
            }
        }
    }

    /// Whoever may subscribe gets what it wants, whenever it said so, and nothing else.
    fn check_flows(&self) {
        let room = &self.lab.room;
        for client in self.clients.values().filter(|c| c.session.is_some()) {
            let seat = room.identities[client.identity.as_str()];
            let participant = room.participants.get(&seat).unwrap();
            if !participant.is_active() || !participant.permission.can_subscribe {
                continue;
            }
            for (sid, publisher) in &room.tracks {
                let publisher = room.participants.get(publisher).unwrap();
                let track = &publisher.tracks[sid];
                let is_wanted = client.wants(sid.as_str());
                let is_let = matches!(publisher.rule, rule::PermissionRule::All);
                if publisher.seat == seat || !track.announced || is_wanted && !is_let {
                    continue;
                }
                let mut downs = room.downs.iter();
                let flows = downs.any(|(id, owner)| {
                    owner.subscriber == seat
                        && owner.track == *sid
                        && self
                            .lab
                            .workers
                            .downs
                            .get(id)
                            .is_some_and(|d| !d.is_closing)
                });
                let who = &client.identity;
                assert_eq!(flows, is_wanted, "whether {who} gets {sid:?}");
            }
        }
    }

    /// What must hold after each step.
    fn check_room(&self) {
        let room = &self.lab.room;
        let identities: BTreeSet<&str> = room.identities.keys().map(Identity::as_str).collect();
        let present: BTreeSet<&str> = room
            .participants
            .values()
            .map(|p| p.identity.as_str())
            .collect();
        assert_eq!(identities, present);
        for (session, seat) in &room.sessions {
            let session_of = room.participants.get(seat).map(|p| p.session);
            assert_eq!(session_of, Some(Some(*session)));
        }
        for (id, seat) in &room.transports {
            let participant = room.participants.get(seat);
            let mut its = participant.into_iter().flat_map(Participant::connections);
            assert!(its.any(|connection| connection.transport == *id), "{id:?}");
            assert!(self.lab.workers.is_open(*id), "{id:?}");
        }
        for (sid, seat) in &room.tracks {
            let participant = room.participants.get(seat);
            assert!(
                participant.is_some_and(|p| p.tracks.contains_key(sid)),
                "{sid:?}"
            );
        }
        for (down, owner) in &room.downs {
            assert!(
                room.participants.get(&owner.subscriber).is_some(),
                "{down:?}"
            );
        }
        for (id, down) in &self.lab.workers.downs {
            assert!(room.downs.contains_key(id), "{down:?} is forgotten");
        }
        for up in self.lab.workers.ups.keys() {
            assert!(room.ups.contains_key(up), "{up:?} is received for nobody");
        }
        self.check_holds();
    }

    /// Nobody is held up but for a reader who is there and behind, or because it is somebody else's turn.
    fn check_holds(&self) {
        let room = &self.lab.room;
        let mut held = BTreeSet::new();
        for (sender, id, readers, review_at) in room.holds.list() {
            assert_eq!(room.transports.get(&id), Some(&sender));
            let pace = |reader| room.participant(reader).expect("a reader").inbox.pace;
            let paces: Vec<Pace> = readers.iter().copied().map(pace).collect();
            let is_queued = review_at <= self.lab.now.at + Duration::from_millis(50);
            assert!(paces.contains(&Pace::Behind) || is_queued, "{paces:?}");
            assert!(held.insert(id), "{id:?} is held twice");
        }
        assert_eq!(held, self.lab.workers.held);
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        self.settle();
        for who in 0..IDENTITIES.len() {
            self.act(who, &Act::Leave);
            self.act(who, &Act::Remove);
        }
        self.wait(QUIET);
        // The empty timeout, when nobody came at all.
        self.wait(Duration::from_secs(301));
        let room = &self.lab.room;
        assert!(room.is_finished());
        assert!(self.lab.workers.are_idle(), "{:#?}", self.lab.workers);
        let left = [
            room.identities.len(),
            room.sessions.len(),
            room.transports.len(),
            room.tracks.len(),
            room.ups.len(),
            room.downs.len(),
            room.mirrors.len(),
            room.goodbyes.len(),
        ];
        assert_eq!(left, [0; 8]);
        assert!(room.speakers.is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn any_day_ends_with_nothing_left_and_all_see_the_same(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}
