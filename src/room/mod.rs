//! One room: who is here, what is published, who may see it, what everybody is told.
//!
//! Owned by one task of the hub, which hands in requests of sessions and events of workers and carries out what
//! [`Room::poll`] returns. The room does no I/O, reads no clock and never waits: SDP is negotiated in here (by
//! [`crate::negotiate`]), the workers get plans.
//!
//! Flow of a join: [`Room::join`] → `join`, `refresh_token`, subscriptions, first answer or offer, candidates →
//! [`crate::plan::Event::Connected`] → ACTIVE.
//!
//! What clients are told, and when, follows livekit 1.13.5 (`pkg/rtc/room.go`, `participant.go`), pinned by
//! recordings in `tests/interop`.

mod addresses;
mod admin;
mod agents;
mod awaited;
mod backup;
mod blob;
mod census;
mod connection;
mod data;
mod data_track;
mod describe;
mod dynacast;
mod fault;
mod forwarding;
mod join;
mod leave;
mod moving;
mod pacing;
mod participant;
mod participants;
mod permission;
mod publish;
mod quality;
mod resume;
mod rpc;
mod rule;
mod settings;
mod signal;
mod speakers;
mod subscribe;
#[cfg(test)]
mod tests;
mod track;
mod update;
mod webhooks;

pub use admin::{Answer, Call, CallError, CallId, check_dispatch, configuration_of};
pub use agents::Fact;
pub use census::Census;
pub use describe::server_info;
pub use fault::{Fault, Faults};
pub use forwarding::{Demands, ForwardId, Forwarding, Guesting, Reflection};
pub use join::JoinRefused;
pub use moving::{Emigrant, Traveller};
pub use participant::Seat;
pub use webhooks::WEBHOOK_TAG;

use crate::config::{Keys, Limits, Room as Defaults};
use crate::ids::{
    DownTrackId, Identity, ParticipantSid, TrackSid, TransportId, UpTrackId, WorkerId,
};
use crate::plan::{Command, DataChannels, Event, Fingerprint, IceServer, LocalCandidate};
use crate::protocol::livekit::{self as proto, signal_request, signal_response};
use crate::protocol::signal::Encoded;
use crate::random::Random;
use bytes::Bytes;
use participant::Participant;
use participants::Participants;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The version of LiveKit that clients are told; they test it for features (livekit.md 3.1).
pub const EMULATED_VERSION: &str = "1.13.5";
/// The newest signalling protocol that is spoken.
pub const PROTOCOL: u32 = 17;

/// The moment of an input, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub at: Instant,
    /// Microseconds since 1970, for what clients are shown.
    pub unix_us: u64,
}

impl Now {
    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> i64 {
        (self.unix_us / 1_000) as i64
    }

    /// Seconds since 1970.
    pub fn unix_s(self) -> u64 {
        self.unix_us / 1_000_000
    }
}

/// One signalling connection, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What the owner of a room has to do.
#[derive(Debug)]
pub enum Output {
    /// Send a message to a session.
    Signal(SessionId, Arc<Encoded>),
    /// Close a session with code 1000 after what was sent.
    Close(SessionId),
    /// Tell the receivers of webhooks: those of the configuration, and these.
    Webhook(Box<proto::WebhookEvent>, Arc<[Arc<str>]>),
    /// Tell the keeper of agents.
    Agent(Box<Fact>),
    /// Give a call its answer.
    Answer(CallId, Box<Result<Answer, CallError>>),
    /// Hand a command to a worker. In `OpenTransport`, `events` is filled in by the owner.
    Net(WorkerId, RoomCommand),
    /// Tell the room that a participant of this one is forwarded to.
    Forward(ForwardId, Forwarding),
    /// Tell the room that a participant is forwarded from.
    Guest(ForwardId, Guesting),
}

/// A command to a worker, or the one that needs the owner's event channel.
#[derive(Debug)]
pub enum RoomCommand {
    /// Everything but `OpenTransport`.
    Plain(Command),
    /// [`Command::OpenTransport`] without its channel.
    Open {
        /// The transport.
        id: TransportId,
        /// Our credentials.
        local: crate::plan::IceCredentials,
        /// Our ICE role.
        controlling: bool,
        /// No checks of our own.
        lite: bool,
        /// Who opens the data channels, and who sends on them.
        channels: DataChannels,
    },
}

/// Everything a room is told at its creation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Defaults of the configuration.
    pub defaults: Defaults,
    /// Limits of the configuration.
    pub limits: Limits,
    /// To sign refreshed tokens.
    pub keys: Keys,
    /// SHA-256 of our certificate.
    pub fingerprint: Fingerprint,
    /// `a=ice-lite` and no checks of our own.
    pub lite: bool,
    /// Clients are told of these.
    pub ice_servers: Vec<IceServer>,
    /// `ND_…` of this process.
    pub node_id: String,
}

/// Where a participant's transports will live.
#[derive(Debug, Clone)]
pub struct Place {
    /// The worker.
    pub worker: WorkerId,
    /// Its addresses.
    pub candidates: Arc<[LocalCandidate]>,
}

/// Where a down track stands in this room.
#[derive(Debug, Clone)]
struct DownOwner {
    subscriber: Seat,
    track: TrackSid,
    up: UpTrackId,
    worker: WorkerId,
    /// Counted in the publication's dynacast.
    demand: Option<dynacast::Demand>,
}

/// A track of another worker that this room has down tracks of.
#[derive(Debug)]
struct Mirror {
    /// Where the track is.
    origin: WorkerId,
    downs: HashSet<DownTrackId>,
}

/// A room. See the module's text.
#[derive(Debug)]
pub struct Room {
    settings: Settings,
    random: Random,
    info: proto::Room,
    sif_trailer: Bytes,
    /// High bits of every number this room issues.
    number: u32,
    next_id: u32,
    next_seat: u32,
    /// Boxed: the nodes of a map that grows at its end are half empty.
    participants: Participants,
    identities: HashMap<Identity, Seat>,
    sessions: HashMap<SessionId, Seat>,
    transports: HashMap<TransportId, Seat>,
    /// Publications announced, by SID: who publishes.
    tracks: HashMap<TrackSid, Seat>,
    ups: HashMap<UpTrackId, (Seat, TrackSid)>,
    downs: HashMap<DownTrackId, DownOwner>,
    /// By mirrored up track and worker; an entry exists while the mirror is open.
    mirrors: HashMap<(UpTrackId, WorkerId), Mirror>,
    /// Participants of this room that others have too.
    forwards: BTreeMap<ForwardId, forwarding::Forward>,
    /// Participants of other rooms that this one has too.
    guests: BTreeMap<ForwardId, Seat>,
    cache: data::JoinerCache,
    holds: pacing::Holds,
    departed: resume::Departed,
    /// Sessions of those who have left without a reason, and when each is answered; in this order.
    goodbyes: VecDeque<(Instant, SessionId)>,
    speakers: speakers::Speakers,
    qualities: quality::Qualities,
    preferences: HashMap<Identity, participant::Preference>,
    update: update::Pending,
    rpcs: rpc::Rpcs,
    nonces: admin::Nonces,
    /// Receivers of webhooks of its own.
    hooks: Arc<[Arc<str>]>,
    /// Agents that its configuration names, until it starts.
    agents: Vec<proto::RoomAgentDispatch>,
    outputs: VecDeque<Output>,
    /// Counts what changed the room's record, counts of people included.
    revision: u64,
    /// When the room ends if nobody comes.
    ends_at: Option<Instant>,
    finished: bool,
    /// Faults of clients that nobody has taken yet.
    faults: Faults,
}

impl Room {
    /// A room without participants. `number` is unique in the process.
    pub fn new(now: Now, name: &str, number: u32, settings: Settings, mut random: Random) -> Self {
        let info = proto::Room {
            sid: format!("RM_{}", random.text(12)),
            name: name.to_owned(),
            empty_timeout: settings.defaults.empty_timeout.as_secs() as u32,
            departure_timeout: settings.defaults.departure_timeout.as_secs() as u32,
            max_participants: settings.defaults.max_participants,
            creation_time: now.unix_s() as i64,
            creation_time_ms: now.unix_ms(),
            turn_password: random.text(44),
            enabled_codecs: settings
                .defaults
                .enabled_codecs
                .iter()
                .map(|mime| proto::Codec {
                    mime: mime.clone(),
                    fmtp_line: String::new(),
                })
                .collect(),
            ..Default::default()
        };
        Self {
            ends_at: Some(now.at + settings.defaults.empty_timeout),
            sif_trailer: random.text(43).into_bytes().into(),
            settings,
            random,
            info,
            number,
            next_id: 0,
            next_seat: 0,
            participants: Participants::default(),
            identities: HashMap::new(),
            sessions: HashMap::new(),
            transports: HashMap::new(),
            tracks: HashMap::new(),
            ups: HashMap::new(),
            downs: HashMap::new(),
            mirrors: HashMap::new(),
            forwards: BTreeMap::new(),
            guests: BTreeMap::new(),
            cache: data::JoinerCache::default(),
            holds: pacing::Holds::default(),
            departed: resume::Departed::default(),
            goodbyes: VecDeque::new(),
            speakers: speakers::Speakers::default(),
            qualities: quality::Qualities::default(),
            preferences: HashMap::new(),
            update: update::Pending::new(now.at),
            rpcs: rpc::Rpcs::default(),
            nonces: admin::Nonces::default(),
            hooks: Arc::default(),
            agents: Vec::new(),
            outputs: VecDeque::new(),
            revision: 0,
            finished: false,
            faults: Faults::default(),
        }
    }

    /// Applies what a token or a preset says of the room it creates; what is zero or empty is left as it is.
    pub fn configure(&mut self, now: Now, configuration: &proto::RoomConfiguration) {
        if configuration.empty_timeout > 0 {
            self.info.empty_timeout = configuration.empty_timeout;
            let timeout = Duration::from_secs(u64::from(configuration.empty_timeout));
            self.settings.defaults.empty_timeout = timeout;
            self.ends_at = Some(now.at + timeout);
        }
        if configuration.departure_timeout > 0 {
            self.info.departure_timeout = configuration.departure_timeout;
            self.settings.defaults.departure_timeout =
                Duration::from_secs(u64::from(configuration.departure_timeout));
        }
        if configuration.max_participants > 0 {
            self.info.max_participants = configuration.max_participants;
        }
        if !configuration.metadata.is_empty() {
            self.info.metadata.clone_from(&configuration.metadata);
        }
        match webhooks::urls_of(&configuration.tags) {
            Ok(urls) if urls.is_empty() => {}
            Ok(urls) => self.hooks = urls.into(),
            Err(fault) => {
                tracing::warn!(room = self.info.name, fault, "webhook_urls left aside");
            }
        }
        self.settings.defaults.sync_streams |= configuration.sync_streams;
        let (min, max) = (
            configuration.min_playout_delay,
            configuration.max_playout_delay,
        );
        if min > 0 || max > 0 {
            let ms = |ms: u32| Duration::from_millis(u64::from(ms));
            self.settings.defaults.playout_delay = Some((ms(min), ms(max)));
        }
        if !configuration.agents.is_empty() {
            self.agents.clone_from(&configuration.agents);
        }
        self.revision += 1;
    }

    /// The room as clients see it.
    pub fn info(&self) -> &proto::Room {
        &self.info
    }

    /// The room as it is at this moment, counts and recorders too.
    pub fn snapshot(&self) -> proto::Room {
        let (num_participants, num_publishers) = self.count();
        proto::Room {
            num_participants,
            num_publishers,
            active_recording: self.is_recorded(),
            ..self.info.clone()
        }
    }

    /// The delay of video that receivers are told: at least and at most, 12 bits each, in steps of 10 ms
    /// (<http://www.webrtc.org/experiments/rtp-hdrext/playout-delay>).
    fn playout_delay(&self) -> Option<[u8; 3]> {
        /// The largest number of steps, 40.95 s.
        const MAX: u128 = 0xfff;
        let (min, max) = self.settings.defaults.playout_delay?;
        let steps = |delay: Duration| (delay.as_millis() / 10).min(MAX) as u32;
        let max = if max.is_zero() {
            MAX as u32
        } else {
            steps(max)
        };
        let [_, bytes @ ..] = (steps(min).min(max) << 12 | max).to_be_bytes();
        Some(bytes)
    }

    /// Another number whenever [`Room::snapshot`] may differ from the one before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Nobody is here and nobody is awaited any more.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Participants present.
    pub fn len(&self) -> usize {
        self.participants.len()
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    /// Whether nobody is present but agents, recorders and participants of other rooms, which do not keep a room alive.
    pub(super) fn is_deserted(&self) -> bool {
        !self.participants.values().any(Participant::keeps_room)
    }

    /// The worker that most participants of this room have.
    pub fn home(&self) -> Option<WorkerId> {
        let mut counts: BTreeMap<WorkerId, usize> = BTreeMap::new();
        for participant in self.participants.values() {
            *counts.entry(participant.worker).or_default() += 1;
        }
        counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(worker, _)| worker)
    }

    /// What the owner has to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The earliest moment at which [`Room::handle_timeout`] has something to do.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.participants
            .next_timeout()
            .into_iter()
            .chain(self.ends_at)
            .chain(self.update.next_timeout())
            .chain(self.speakers.next_timeout())
            .chain(self.qualities.next_timeout())
            .chain(self.rpcs.next_timeout())
            .chain(self.holds.next_timeout())
            .chain(self.goodbyes.front().map(|(at, _)| *at))
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.ends_at.take_if(|at| *at <= now.at).is_some() && self.is_deserted() {
            self.close(now);
        }
        for seat in self.participants.due(now.at) {
            self.expire(now, seat);
            self.expire_offer(now, seat);
            self.release_answers(now, seat);
            self.negotiate_if_due(now, seat);
            self.apply_settings_if_due(now, seat);
            self.give_up_awaited_if_due(now, seat);
            self.tell_waiting_if_due(now, seat);
            self.announce_if_due(now, seat);
            self.review_demands_if_due(now, seat);
            self.refresh_token_if_due(now, seat);
        }
        self.flush_updates(now);
        self.tell_speakers_if_due(now);
        self.tell_qualities_if_due(now);
        self.expire_rpcs(now);
        self.review_holds_if_due(now);
        self.say_goodbyes_if_due(now);
    }

    /// A request of a client.
    pub fn handle_request(&mut self, now: Now, session: SessionId, request: proto::SignalRequest) {
        let Some(&seat) = self.sessions.get(&session) else {
            return;
        };
        let Some(message) = request.message else {
            return;
        };
        match message {
            signal_request::Message::Offer(offer) => self.handle_offer(now, seat, &offer),
            signal_request::Message::Answer(answer) => self.handle_answer(now, seat, &answer),
            signal_request::Message::Trickle(trickle) => self.handle_trickle(seat, &trickle),
            signal_request::Message::AddTrack(request) => self.add_track(now, seat, request),
            signal_request::Message::Mute(mute) => {
                self.mute_own_track(now, seat, mute);
            }
            signal_request::Message::Subscription(update) => {
                self.update_subscription(now, seat, &update);
            }
            signal_request::Message::TrackSetting(settings) => {
                self.update_track_settings(now, seat, &settings);
            }
            signal_request::Message::Leave(leave) => self.handle_leave(now, seat, &leave),
            signal_request::Message::SubscriptionPermission(permission) => {
                self.update_subscription_permission(now, seat, &permission);
            }
            signal_request::Message::UpdateMetadata(update) => {
                self.update_own_metadata(now, seat, update);
            }
            signal_request::Message::UpdateAudioTrack(update) => {
                self.update_audio_track(now, seat, update);
            }
            signal_request::Message::UpdateVideoTrack(update) => {
                self.update_video_track(now, seat, update);
            }
            signal_request::Message::PublishDataTrackRequest(request) => {
                self.publish_data_track(now, seat, request);
            }
            signal_request::Message::UnpublishDataTrackRequest(request) => {
                self.unpublish_data_track(now, seat, request);
            }
            signal_request::Message::UpdateDataSubscription(update) => {
                self.update_data_subscription(seat, &update);
            }
            signal_request::Message::StoreDataBlobRequest(request) => {
                self.store_data_blob(seat, request);
            }
            signal_request::Message::GetDataBlobRequest(request) => {
                self.get_data_blob(seat, request);
            }
            signal_request::Message::SyncState(state) => self.sync_state(now, seat, &state),
            signal_request::Message::Simulate(scenario) => self.simulate(now, seat, &scenario),
            // Pings are answered by the session; the rest is deprecated.
            _ => {}
        }
    }

    /// An event of a worker.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Connected { id, proto, remote } => {
                self.transport_connected(now, id, proto, remote);
            }
            Event::Disconnected { id } => self.transport_disconnected(now, id),
            Event::Closed { id } => self.transport_closed(now, id),
            Event::ChannelOpen { id } => self.channel_open(now, id),
            Event::Behind { id, behind } => self.reader_behind(now, id, behind),
            Event::ChannelStuck { id } => self.channel_stuck(now, id),
            Event::Data {
                id,
                channel,
                payload,
            } => self.handle_data(now, id, channel, &payload),
            Event::LayerSeen {
                up,
                spatial,
                ssrc,
                format,
            } => {
                self.layer_seen(now, up, spatial, ssrc, format);
            }
            Event::AudioLevel { up, level } => self.audio_level(now, up, level),
            Event::Quality { report, .. } => self.quality_reported(now, &report),
            Event::DownStarted { down } => self.down_started(down),
            Event::DownClosed { down, .. } => self.down_closed(now, down),
        }
    }

    /// Sends one message to one participant's session; silently nothing without one.
    fn send(&mut self, seat: Seat, message: signal_response::Message) {
        self.send_shared(seat, &Arc::new(Encoded::new(message)));
    }

    fn send_shared(&mut self, seat: Seat, message: &Arc<Encoded>) {
        if let Some(session) = self.participants.get(&seat).and_then(|p| p.session) {
            self.outputs
                .push_back(Output::Signal(session, Arc::clone(message)));
        }
    }

    fn command(&mut self, worker: WorkerId, command: Command) {
        self.outputs
            .push_back(Output::Net(worker, RoomCommand::Plain(command)));
    }

    fn issue(&mut self) -> u64 {
        self.next_id += 1;
        u64::from(self.number) << 32 | u64::from(self.next_id)
    }

    fn participant(&self, seat: Seat) -> Option<&Participant> {
        self.participants.get(&seat)
    }

    /// The seat of a SID.
    fn seat_of(&self, sid: &str) -> Option<Seat> {
        self.participants
            .values()
            .find(|p| p.sid.as_str() == sid)
            .map(|p| p.seat)
    }

    /// The `PA_…` of a session's participant.
    pub fn participant_sid(&self, session: SessionId) -> Option<ParticipantSid> {
        self.sessions
            .get(&session)
            .and_then(|seat| self.participants.get(seat))
            .map(|p| p.sid.clone())
    }
}

/// How long a participant may take to connect (livekit 1.13.5: one minute).
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a participant without any path is kept; with the 14 s of consent this stays under 20 s.
const DISCONNECT_GRACE: Duration = Duration::from_secs(3);
/// Non-publishers' changes are told at this beat (livekit 1.13.5 `subscriberUpdateInterval`).
const UPDATE_BEAT: Duration = Duration::from_secs(3);
/// Counts are told at most this often.
const ROOM_UPDATE_BEAT: Duration = Duration::from_secs(5);
