//! The state of one participant, from JOINING to DISCONNECTED.

use super::Now;
use super::SessionId;
use super::awaited::Awaited;
use super::blob::Blobs;
use super::connection::Connection;
use super::data::Inbox;
use super::data_track::DataTracks;
use super::forwarding::Guest;
use super::rule::PermissionRule;
use super::subscribe::{Down, Subscription};
use super::track::Publication;
use crate::ids::{Identity, ParticipantSid, TrackSid, TransportId, WorkerId};
use crate::plan::LocalCandidate;
use crate::protocol::livekit::{
    self as proto, AddTrackRequest, ParticipantInfo, TrackSource, client_info, participant_info,
};
use crate::protocol::token::{Claims, VideoGrant};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens are refreshed this often (livekit 1.13.5 `roommanager.go`).
pub(super) const TOKEN_REFRESH: Duration = Duration::from_secs(300);

/// A participant's number in its room: one stay, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub(super) u32);

/// What a participant may do, from its token or from a later change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) can_publish: bool,
    pub(super) can_subscribe: bool,
    pub(super) can_publish_data: bool,
    pub(super) can_update_metadata: bool,
    pub(super) can_subscribe_metrics: bool,
    pub(super) can_manage_agent_session: bool,
    pub(super) hidden: bool,
    pub(super) recorder: bool,
    pub(super) agent: bool,
    /// Empty: all.
    pub(super) sources: Vec<TrackSource>,
}

impl Permission {
    pub(super) fn of(grant: &VideoGrant) -> Self {
        let can_publish = grant.can_publish.unwrap_or(true);
        Self {
            can_publish,
            can_subscribe: grant.can_subscribe.unwrap_or(true),
            can_publish_data: grant.can_publish_data.unwrap_or(can_publish),
            can_update_metadata: grant.can_update_own_metadata.unwrap_or(false),
            can_subscribe_metrics: grant.can_subscribe_metrics.unwrap_or(false),
            can_manage_agent_session: grant.can_manage_agent_session.unwrap_or(false),
            hidden: grant.hidden,
            recorder: grant.recorder,
            agent: grant.agent,
            sources: grant
                .can_publish_sources
                .iter()
                .map(|name| source_named(name))
                .collect(),
        }
    }

    /// As an administrator sets it.
    pub(super) fn from_proto(permission: &proto::ParticipantPermission) -> Self {
        #[expect(deprecated, reason = "all fields are set, the older ones too")]
        let (recorder, agent) = (permission.recorder, permission.agent);
        Self {
            can_publish: permission.can_publish,
            can_subscribe: permission.can_subscribe,
            can_publish_data: permission.can_publish_data,
            can_update_metadata: permission.can_update_metadata,
            can_subscribe_metrics: permission.can_subscribe_metrics,
            can_manage_agent_session: permission.can_manage_agent_session,
            hidden: permission.hidden,
            recorder,
            agent,
            sources: permission.can_publish_sources().collect(),
        }
    }

    /// Writes it into a grant, from which refreshed tokens are made.
    pub(super) fn write_to(&self, grant: &mut VideoGrant) {
        grant.can_publish = Some(self.can_publish);
        grant.can_subscribe = Some(self.can_subscribe);
        grant.can_publish_data = Some(self.can_publish_data);
        grant.can_update_own_metadata = Some(self.can_update_metadata);
        grant.can_subscribe_metrics = Some(self.can_subscribe_metrics);
        grant.can_manage_agent_session = Some(self.can_manage_agent_session);
        grant.hidden = self.hidden;
        grant.recorder = self.recorder;
        grant.agent = self.agent;
        grant.can_publish_sources = self
            .sources
            .iter()
            .map(|source| source.as_str_name().to_ascii_lowercase())
            .collect();
    }

    pub(super) fn may_publish(&self, source: TrackSource) -> bool {
        let is_named = source != TrackSource::Unknown && self.sources.contains(&source);
        self.can_publish && (self.sources.is_empty() || is_named)
    }

    pub(super) fn to_proto(&self) -> proto::ParticipantPermission {
        #[expect(deprecated, reason = "older clients read these two")]
        proto::ParticipantPermission {
            can_subscribe: self.can_subscribe,
            can_publish: self.can_publish,
            can_publish_data: self.can_publish_data,
            can_publish_sources: self.sources.iter().map(|source| *source as i32).collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.can_update_metadata,
            agent: self.agent,
            can_subscribe_metrics: self.can_subscribe_metrics,
            can_manage_agent_session: self.can_manage_agent_session,
        }
    }
}

/// A word that is none grants nothing, and is kept: a list without any grants everything.
fn source_named(name: &str) -> TrackSource {
    match name.to_ascii_lowercase().as_str() {
        "camera" => TrackSource::Camera,
        "microphone" => TrackSource::Microphone,
        "screen_share" => TrackSource::ScreenShare,
        "screen_share_audio" => TrackSource::ScreenShareAudio,
        _ => TrackSource::Unknown,
    }
}

/// A way to connect that was asked for in place of UDP; kept for an identity while its room lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// ICE-TCP.
    Tcp,
    /// TURN over TLS.
    Tls,
}

/// The kind of a token.
pub(super) fn kind_of(claims: &Claims) -> participant_info::Kind {
    match claims.kind.to_ascii_lowercase().as_str() {
        "ingress" => participant_info::Kind::Ingress,
        "egress" => participant_info::Kind::Egress,
        "sip" => participant_info::Kind::Sip,
        "agent" => participant_info::Kind::Agent,
        "connector" => participant_info::Kind::Connector,
        "bridge" => participant_info::Kind::Bridge,
        _ => participant_info::Kind::Standard,
    }
}

/// What a token adds to the kind; words that are not known are left aside (livekit 1.13.5 `kindDetailsToProto`).
fn kind_details_of(claims: &Claims) -> Vec<i32> {
    let words = claims
        .kind_details
        .iter()
        .map(|word| word.to_ascii_uppercase());
    words
        .filter_map(|word| participant_info::KindDetail::from_str_name(&word))
        .map(|detail| detail as i32)
        .collect()
}

/// One participant.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) seat: Seat,
    pub(super) sid: ParticipantSid,
    pub(super) identity: Identity,
    pub(super) session: Option<SessionId>,
    pub(super) worker: WorkerId,
    pub(super) candidates: Arc<[LocalCandidate]>,
    /// Name, metadata and attributes in here are the current ones; refreshed tokens are made of them.
    pub(super) claims: Claims,
    pub(super) api_key: String,
    pub(super) client: proto::ClientInfo,
    pub(super) protocol: u32,
    pub(super) single_pc: bool,
    /// v0 with the right to subscribe when it joined: the client waits for our connection, not for its own.
    pub(super) subscriber_primary: bool,
    pub(super) auto_subscribe: bool,
    pub(super) auto_subscribe_data_track: bool,
    pub(super) adaptive_stream: bool,
    pub(super) permission: Permission,
    pub(super) kind: participant_info::Kind,
    /// Numbers of [`participant_info::KindDetail`].
    pub(super) kind_details: Vec<i32>,
    pub(super) state: participant_info::State,
    pub(super) joined: Now,
    pub(super) version: u32,
    pub(super) is_publisher: bool,
    pub(super) disconnect_reason: proto::DisconnectReason,
    /// v1: the only connection; v0: the publisher's, opened with its first offer.
    pub(super) main: Option<Connection>,
    /// v0: ours to the subscriber.
    pub(super) subscriber: Option<Connection>,
    /// Announced by `add_track`, not yet seen in an offer, in order.
    pub(super) pending: Vec<Publication>,
    /// Announced under an id that is pending: taken up one by one, as the tracks before them end.
    pub(super) queued: Vec<AddTrackRequest>,
    pub(super) tracks: BTreeMap<TrackSid, Publication>,
    pub(super) subscriptions: HashMap<TrackSid, Subscription>,
    pub(super) awaited: Awaited,
    pub(super) rule: PermissionRule,
    pub(super) inbox: Inbox,
    pub(super) data_tracks: DataTracks,
    pub(super) blobs: Blobs,
    /// When its session was lost, while it has none.
    pub(super) away_since: Option<Instant>,
    /// Simulated: the next resume is closed again.
    pub(super) close_on_resume: bool,
    /// Simulated: the next resume fails.
    pub(super) fail_resume: bool,
    /// How its connections may be made.
    pub(super) preference: Option<Preference>,
    /// What it was told of frames of our own, if that was in another room.
    pub(super) sif_trailer: Option<Bytes>,
    /// It is in another room and forwarded to this one.
    pub(super) guest: Option<Guest>,
    /// Its token is made anew at this moment.
    pub(super) refresh_at: Instant,
    /// Removed at this moment, unless it connects before.
    pub(super) expires: Option<(Instant, proto::DisconnectReason)>,
}

impl Participant {
    /// Without a session, a connection, a track, or a right.
    pub(super) fn new(
        now: Now,
        seat: Seat,
        sid: ParticipantSid,
        identity: Identity,
        worker: WorkerId,
        claims: Claims,
    ) -> Self {
        Self {
            seat,
            sid,
            identity,
            session: None,
            worker,
            candidates: Arc::default(),
            kind: kind_of(&claims),
            kind_details: kind_details_of(&claims),
            claims,
            api_key: String::new(),
            client: proto::ClientInfo::default(),
            protocol: 0,
            single_pc: true,
            subscriber_primary: false,
            auto_subscribe: false,
            auto_subscribe_data_track: false,
            adaptive_stream: false,
            permission: Permission::default(),
            state: participant_info::State::Joining,
            joined: now,
            version: 0,
            is_publisher: false,
            disconnect_reason: proto::DisconnectReason::UnknownReason,
            main: None,
            subscriber: None,
            pending: Vec::new(),
            queued: Vec::new(),
            tracks: BTreeMap::new(),
            subscriptions: HashMap::new(),
            awaited: Awaited::default(),
            rule: PermissionRule::All,
            inbox: Inbox::new(now.at),
            data_tracks: DataTracks::default(),
            blobs: Blobs::default(),
            away_since: None,
            close_on_resume: false,
            fail_resume: false,
            preference: None,
            sif_trailer: None,
            guest: None,
            refresh_at: now.at + TOKEN_REFRESH,
            expires: None,
        }
    }

    pub(super) fn is_firefox(&self) -> bool {
        self.client.browser.to_ascii_lowercase().contains("firefox")
    }

    pub(super) fn is_safari(&self) -> bool {
        self.client.browser.to_ascii_lowercase().contains("safari")
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == participant_info::State::Active
    }

    /// Recorders and agents do not count as people (livekit.md 2, `IsDependent`).
    pub(super) fn is_dependent(&self) -> bool {
        self.is_recorder() || self.permission.agent || self.kind == participant_info::Kind::Agent
    }

    /// By its right, or by its kind (livekit.md 2, `IsRecorder`).
    pub(super) fn is_recorder(&self) -> bool {
        self.permission.recorder || self.kind == participant_info::Kind::Egress
    }

    /// Whether the room lives while it is there.
    pub(super) fn keeps_room(&self) -> bool {
        !self.is_dependent() && self.guest.is_none()
    }

    /// LiveKit's SDK for the ESP32 gives up when it is told of no ICE server (its `engine.c`,
    /// `establish_peer_connections`).
    pub(super) fn wants_stun(&self) -> bool {
        self.client.sdk == client_info::Sdk::Esp32 as i32
    }

    /// The connection on which down tracks go to it.
    pub(super) fn downstream(&self) -> Option<&Connection> {
        if self.single_pc {
            self.main.as_ref()
        } else {
            self.subscriber.as_ref()
        }
    }

    /// The connection on which data goes to it: the one that it waits for (livekit 1.13.5 `transportmanager.go`,
    /// `getTransport`).
    pub(super) fn data_connection(&self) -> Option<&Connection> {
        let offered = self.subscriber.as_ref();
        offered
            .filter(|connection| connection.negotiator.holds_data())
            .or(self.main.as_ref())
    }

    pub(super) fn downstream_mut(&mut self) -> Option<&mut Connection> {
        if self.single_pc {
            self.main.as_mut()
        } else {
            self.subscriber.as_mut()
        }
    }

    pub(super) fn connection_mut(&mut self, id: TransportId) -> Option<&mut Connection> {
        self.main
            .iter_mut()
            .chain(self.subscriber.iter_mut())
            .find(|connection| connection.transport == id)
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.main.iter().chain(self.subscriber.iter())
    }

    /// Whether one of them stood and does not any more.
    pub(super) fn has_lost_connections(&self) -> bool {
        self.connections().any(|connection| connection.is_lost)
    }

    /// Whether `id` is the connection whose state decides this participant's.
    pub(super) fn is_primary(&self, id: TransportId) -> bool {
        let primary = if self.subscriber_primary {
            &self.subscriber
        } else {
            &self.main
        };
        primary
            .as_ref()
            .is_some_and(|connection| connection.transport == id)
    }

    /// When time changes something of it.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let negotiations = self
            .connections()
            .flat_map(|c| [c.negotiate_at, c.answer_by, c.hold_until])
            .flatten();
        let settings = self.subscriptions.values().filter_map(|s| s.apply_at);
        let downs = self.subscriptions.values().filter_map(|s| s.down.as_ref());
        let patience = downs.filter_map(Down::waits_until);
        let announcements = self
            .tracks
            .values()
            .filter(|t| !t.announced)
            .filter_map(|t| t.announce_by);
        let demands = self
            .tracks
            .values()
            .filter_map(Publication::next_demand_review);
        self.expires
            .map(|(at, _)| at)
            .into_iter()
            .chain(std::iter::once(self.refresh_at))
            .chain(negotiations)
            .chain(settings)
            .chain(patience)
            .chain(self.awaited.next_timeout())
            .chain(announcements)
            .chain(demands)
            .min()
    }

    pub(super) fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.as_str().to_owned(),
            identity: self.identity.as_str().to_owned(),
            state: self.state as i32,
            tracks: self
                .tracks
                .values()
                .filter(|t| t.announced)
                .map(|t| t.info.clone())
                .collect(),
            metadata: self.claims.metadata.clone(),
            joined_at: self.joined.unix_s() as i64,
            joined_at_ms: self.joined.unix_ms(),
            name: self.claims.name.clone(),
            version: self.version,
            permission: Some(self.permission.to_proto()),
            region: String::new(),
            is_publisher: self.is_publisher,
            kind: self.kind as i32,
            attributes: self.claims.attributes.clone(),
            disconnect_reason: self.disconnect_reason as i32,
            kind_details: self.kind_details.clone(),
            data_tracks: self.data_tracks.published(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
        }
    }

    /// A publication of its own, whether an offer has carried it or not.
    pub(super) fn own_track(&mut self, sid: &str) -> Option<&mut Publication> {
        let mut pending = self.pending.iter_mut();
        let track = self.tracks.get_mut(sid);
        track.or_else(|| pending.find(|track| track.sid.as_str() == sid))
    }

    /// Whether it is to get a track that comes.
    pub(super) fn wants(&self, sid: &TrackSid) -> bool {
        self.auto_subscribe || self.awaited.wants(sid)
    }

    /// Whether Safari or a very old client, which must not find a section used again.
    pub(super) fn reuses_sections(&self) -> bool {
        self.protocol > 3 && !self.is_safari()
    }

    /// pion, and with it the Go SDK, tells its user of a track when the first packet comes (livekit.md 3.15).
    pub(super) fn needs_packets(&self) -> bool {
        self.client.sdk == client_info::Sdk::Go as i32
    }

    /// The Go SDK may read an answer before it has set the offer that it joined with: it reads on before it does that.
    pub(super) fn is_slow_to_offer(&self) -> bool {
        self.client.sdk == client_info::Sdk::Go as i32
    }

    /// Others take another payload type in the middle of a track for another codec; pion, and so the Go SDK, does not,
    /// and who knows what an unknown client does (livekit 1.13.5 `clientinfo.go`).
    pub(super) fn takes_codec_changes(&self) -> bool {
        !matches!(
            self.client.sdk(),
            client_info::Sdk::Go | client_info::Sdk::Unknown
        )
    }

    /// Native SDKs whose protocol is below 10 end on an unknown `request_response` (livekit.md 3.3).
    pub(super) fn takes_request_response(&self) -> bool {
        !(self.client.sdk == client_info::Sdk::Rust as i32 && self.protocol < 10)
    }
}
