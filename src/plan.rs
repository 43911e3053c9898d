//! What a negotiation decided, as a worker needs it: the commands that the room's task sends to a media worker and
//! the events that come back. Types only. A worker never sees SDP.
//!
//! Every command that names a transport goes to the worker that owns it ([`crate::ids::WorkerId`] is chosen once per
//! participant). An up track lives where the publisher's transport lives; a worker that serves subscribers of a track
//! of another worker holds a *mirror* of it, fed by a bounded ring.

use crate::ids::{DownTrackId, Mid, PayloadType, Rid, Ssrc, TransportId, UpTrackId, WorkerId};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// A codec that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// AV1.
    Av1,
    /// H.264; which profile is in [`Format::variant`].
    H264,
    /// H.265.
    H265,
    /// Opus.
    Opus,
    /// G.711 A-law.
    Pcma,
    /// G.711 µ-law.
    Pcmu,
    /// Redundant audio around Opus (RFC 2198).
    Red,
    /// VP8.
    Vp8,
    /// VP9; the profile is in [`Format::variant`].
    Vp9,
}

impl Codec {
    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus | Self::Pcma | Self::Pcmu | Self::Red => Kind::Audio,
            Self::Av1 | Self::H264 | Self::H265 | Self::Vp8 | Self::Vp9 => Kind::Video,
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Pcma | Self::Pcmu => 8_000,
            Self::Av1 | Self::H264 | Self::H265 | Self::Vp8 | Self::Vp9 => 90_000,
        }
    }

    /// The MIME type as LiveKit writes it in `TrackInfo.mime_type`: `video/VP8`, `audio/opus`, `audio/red`.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Av1 => "video/AV1",
            Self::H264 => "video/H264",
            Self::H265 => "video/H265",
            Self::Opus => "audio/opus",
            Self::Pcma => "audio/PCMA",
            Self::Pcmu => "audio/PCMU",
            Self::Red => "audio/red",
            Self::Vp8 => "video/VP8",
            Self::Vp9 => "video/VP9",
        }
    }

    /// Every format of it that is forwarded, the usual one first.
    pub fn formats(self) -> Vec<Format> {
        let variants: &[u8] = match self {
            Self::H264 => &[1, 0, 7],
            Self::Vp9 => &[0, 1],
            Self::Av1
            | Self::H265
            | Self::Opus
            | Self::Pcma
            | Self::Pcmu
            | Self::Red
            | Self::Vp8 => &[0],
        };
        let format = |variant: &u8| Format {
            codec: self,
            variant: *variant,
        };
        variants.iter().map(format).collect()
    }

    /// The codec of a MIME type or of a bare encoding name, in any case.
    pub fn from_mime(mime: &str) -> Option<Self> {
        let name = mime.rsplit('/').next().unwrap_or(mime);
        [
            Self::Av1,
            Self::H264,
            Self::H265,
            Self::Opus,
            Self::Pcma,
            Self::Pcmu,
            Self::Red,
            Self::Vp8,
            Self::Vp9,
        ]
        .into_iter()
        .find(|codec| codec.mime()[6..].eq_ignore_ascii_case(name))
    }
}

/// A codec with what makes two of its payload types different to a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// The codec.
    pub codec: Codec,
    /// VP9 and AV1: the profile. H.264: `profile * 2 + packetization-mode`, profile 0 constrained baseline, 1 baseline,
    /// 2 main, 3 high. Others 0.
    pub variant: u8,
}

/// Header extension ids in force on one transport (BUNDLE makes them one space, RFC 8843 §9.2). `None`: not agreed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `…:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `…:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `…:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// `abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `transport-wide-cc-01`.
    pub transport_cc: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<u8>,
    /// `abs-capture-time`.
    pub abs_capture_time: Option<u8>,
    /// `playout-delay`.
    pub playout_delay: Option<u8>,
}

/// ICE credentials of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`. Ours begins with one character that names the worker ([`WorkerId::ufrag_char`]).
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: crate::secret::Secret<String>,
}

impl WorkerId {
    /// The first character of every local ufrag of this worker: ICE-TCP connections find their worker by it.
    pub fn ufrag_char(self) -> char {
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[usize::from(self.0) % 52],
        )
    }
}

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proto {
    /// ICE over TCP (RFC 6544); ours is always passive.
    Tcp,
    /// UDP.
    Udp,
}

/// An address at which this server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalCandidate {
    /// UDP, or passive TCP.
    pub proto: Proto,
    /// What clients are told.
    pub address: SocketAddr,
    /// Local preference of RFC 8445 §5.1.2.1; higher is tried first.
    pub preference: u16,
}

/// An address of the peer, from SDP or trickle. mDNS names and TCP passive or port 9 candidates never get here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// UDP or TCP.
    pub proto: Proto,
    /// Where it says it is.
    pub address: SocketAddr,
    /// Its priority (RFC 8445 §5.1.2).
    pub priority: u32,
    /// host, srflx, prflx or relay.
    pub kind: CandidateKind,
}

/// Candidate types of RFC 8445 §5.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// An interface's own address.
    Host,
    /// Learned from a check.
    PeerReflexive,
    /// A TURN allocation.
    Relayed,
    /// Learned from a STUN server.
    ServerReflexive,
}

/// Which side starts the DTLS handshake (RFC 8842 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the `ClientHello` (`setup:active` is ours).
    Client,
    /// We wait for it (`setup:passive` is ours).
    Server,
}

/// SHA-256 of the peer's certificate, from `a=fingerprint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// The peer's side of a transport, known once its SDP is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// Its ICE credentials; new ones mean an ICE restart.
    pub ice: IceCredentials,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Our DTLS role.
    pub role: DtlsRole,
}

/// A payload type that a publisher may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveFormat {
    /// The payload type on this transport.
    pub pt: PayloadType,
    /// What it carries.
    pub format: Format,
    /// The payload type of its retransmissions (RFC 4588).
    pub rtx: Option<PayloadType>,
}

/// One encoding of a published track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveLayer {
    /// Spatial index: 0 the lowest.
    pub spatial: u8,
    /// Its RID, when signalled by RID.
    pub rid: Option<Rid>,
    /// Its SSRC, when signalled by SSRC.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<Ssrc>,
}

/// One published track: a receiving media section bound to a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveTrack {
    /// The track.
    pub up: UpTrackId,
    /// Its section.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// Payload types in order of preference.
    pub formats: Vec<ReceiveFormat>,
    /// Its encodings, lowest first; one for audio and for SVC.
    pub layers: Vec<ReceiveLayer>,
    /// Send NACKs for what is missing.
    pub nack: bool,
}

/// All that a transport receives; each one replaces the one before. A track no longer in it has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivePlan {
    /// Extension ids.
    pub extensions: Extensions,
    /// Tracks.
    pub tracks: Vec<ReceiveTrack>,
}

/// A payload type in which a subscriber takes a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendFormat {
    /// The format.
    pub format: Format,
    /// The payload type on the subscriber's transport.
    pub pt: PayloadType,
    /// The payload type of retransmissions.
    pub rtx: Option<PayloadType>,
}

/// One track to one subscriber, bound to a section of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownTrackPlan {
    /// The down track.
    pub down: DownTrackId,
    /// What it carries.
    pub up: UpTrackId,
    /// Audio or video.
    pub kind: Kind,
    /// The subscriber's transport.
    pub transport: TransportId,
    /// The section.
    pub mid: Mid,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// SSRC of retransmissions; `None` without RTX.
    pub rtx_ssrc: Option<Ssrc>,
    /// Formats that the subscriber takes.
    pub formats: Vec<SendFormat>,
    /// Extension ids on the subscriber's transport.
    pub extensions: Extensions,
    /// The subscriber sends NACKs and they are answered.
    pub nack: bool,
    /// RTCP CNAME: the stream id.
    pub cname: String,
    /// What it wants at first.
    pub wanted: Wanted,
    /// What the receiver is to delay at least and at most, as it stands in the `playout-delay` extension.
    pub playout_delay: Option<[u8; 3]>,
    /// Appended to frames that this server makes itself, so that end-to-end encrypting clients know them.
    pub sif_trailer: Bytes,
    /// The client takes notice of a track by its first packet only: a muted one is announced by silence or padding.
    pub needs_packets: bool,
}

/// What a subscriber wants of a track now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// `true`: send nothing (settings `disabled`).
    pub paused: bool,
    /// Highest encoding to send, or highest spatial layer where one encoding holds several; 255: whatever there is.
    pub max_spatial: u8,
    /// Highest temporal layer to send; 255: all.
    pub max_temporal: u8,
}

/// The data channels of LiveKit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `_data_track`: unordered, no retransmissions, data-track packets.
    DataTrack,
    /// `_lossy`: unordered, no retransmissions.
    Lossy,
    /// Any that a client opens under another label. Each message is the payload of a reliable user packet, for clients
    /// that have no protobuf (livekit 1.13.5 `transport.go`, `onDataChannel`). Nothing is sent on it.
    Other,
    /// `_reliable`: ordered.
    Reliable,
}

impl Channel {
    /// The label on the wire; empty where it is the client's own.
    pub fn label(self) -> &'static str {
        match self {
            Self::DataTrack => "_data_track",
            Self::Lossy => "_lossy",
            Self::Other => "",
            Self::Reliable => "_reliable",
        }
    }
}

/// Who opens the data channels of a transport, and who sends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataChannels {
    /// We open all three, and both ends send (the subscriber transport of a client with two connections that waits for
    /// it).
    Ours,
    /// The peer opens them, and both ends send.
    Theirs,
    /// The peer opens them, and only it sends: what we send takes its other transport.
    TheirsAlone,
}

/// Where the events of a transport go: the task of its room. Bounded; a full channel makes the worker hold data
/// messages back and merge the rest.
pub type EventSender = tokio::sync::mpsc::Sender<Event>;

/// From a room to a worker.
#[derive(Debug)]
pub enum Command {
    /// Opens a transport. Checks from the peer are answered from now on; ours begin when the remote side is known.
    OpenTransport {
        /// Its id.
        id: TransportId,
        /// Our credentials.
        local: IceCredentials,
        /// Our initial ICE role; controlling when we made the offer.
        controlling: bool,
        /// Send no checks of our own (RFC 8445 §2.5).
        lite: bool,
        /// Its data channels.
        channels: DataChannels,
        /// Where events go.
        events: EventSender,
    },
    /// Sends the events of a transport to another room from now on.
    SetEvents {
        /// The transport.
        id: TransportId,
        /// Where events go.
        events: EventSender,
        /// Told when no event goes to the old room any more.
        done: tokio::sync::oneshot::Sender<()>,
    },
    /// The peer's side, at first and on every later change; other credentials than before are an ICE restart.
    SetRemote {
        /// The transport.
        id: TransportId,
        /// The peer's side.
        remote: RemoteTransport,
        /// Ours, when the restart changes them.
        local: Option<IceCredentials>,
    },
    /// An address of the peer.
    AddRemoteCandidate {
        /// The transport.
        id: TransportId,
        /// The address.
        candidate: RemoteCandidate,
    },
    /// Ends a transport with its up and down tracks: close_notify, no more events.
    CloseTransport {
        /// The transport.
        id: TransportId,
    },
    /// What it receives from now on.
    SetReceive {
        /// The publisher's transport.
        id: TransportId,
        /// Everything it receives.
        plan: ReceivePlan,
    },
    /// The publisher muted or unmuted: down tracks flush with silence or black frames for a second (livekit.md 4.3).
    SetMuted {
        /// The track.
        up: UpTrackId,
        /// Muted from now on.
        muted: bool,
    },
    /// Copies an up track's packets to another worker, or stops doing so. Rooms that share a track (a participant that
    /// is forwarded) ask each for itself: it stops when all that asked have taken it back.
    SetMirror {
        /// A track of this worker.
        up: UpTrackId,
        /// The worker that has subscribers of it.
        to: WorkerId,
        /// Start or stop.
        on: bool,
    },
    /// Prepares for an up track of another worker, before a room's first down track of it here.
    OpenMirror {
        /// The track.
        up: UpTrackId,
        /// The worker that owns it.
        from: WorkerId,
        /// Audio or video.
        kind: Kind,
    },
    /// A room needs a mirror no more; with the last one it ends, and its down tracks.
    CloseMirror {
        /// The track.
        up: UpTrackId,
    },
    /// Begins to send a track to a subscriber (also when a renegotiation moved it, or it goes on with another codec of
    /// its publication: same `down`, new plan).
    OpenDown {
        /// All about it.
        plan: Box<DownTrackPlan>,
    },
    /// What the subscriber wants has changed.
    SetWanted {
        /// The down track.
        down: DownTrackId,
        /// From now on.
        wanted: Wanted,
    },
    /// Ends a down track: 200 ms of blank frames if it has sent anything, then [`Event::DownClosed`].
    CloseDown {
        /// The down track.
        down: DownTrackId,
    },
    /// Sends one message to many, built once.
    SendData {
        /// Receivers on this worker.
        to: Vec<TransportId>,
        /// The channel.
        channel: Channel,
        /// The message.
        payload: Bytes,
    },
    /// Leaves what a peer sends on its data channels unread, so that it has to wait; or reads on.
    HoldData {
        /// The peer's transport.
        id: TransportId,
        /// From now on.
        hold: bool,
    },
    /// Pretends that a subscriber's network carries no more video than this; `None`: what it says itself counts.
    LimitBandwidth {
        /// The subscriber's transport.
        id: TransportId,
        /// Bits a second.
        bitrate: Option<u64>,
    },
    /// Sends a report of its counters.
    Report {
        /// Where to.
        to: tokio::sync::oneshot::Sender<WorkerReport>,
    },
    /// Ends the worker: transports are closed with close_notify.
    Stop,
}

/// From a worker to the room that owns the transport.
#[derive(Debug)]
pub enum Event {
    /// ICE and DTLS stand: media can flow.
    Connected {
        /// The transport.
        id: TransportId,
        /// How the peer was reached.
        proto: Proto,
        /// The peer's address, for the log.
        remote: SocketAddr,
    },
    /// No path works any more (consent lost, RFC 7675); it may come back by an ICE restart.
    Disconnected {
        /// The transport.
        id: TransportId,
    },
    /// The peer closed (close_notify), or the handshake failed for good.
    Closed {
        /// The transport.
        id: TransportId,
    },
    /// `_reliable` can be written to, on a transport where we send. Nobody waits for the others: what is sent before they
    /// open may be lost.
    ChannelOpen {
        /// The transport.
        id: TransportId,
    },
    /// A reliable channel holds more than 1 MB for its reader; or less than half of that again.
    Behind {
        /// The reader's transport.
        id: TransportId,
        /// From now on.
        behind: bool,
    },
    /// A reliable channel holds more than 4 MB: the participant is too slow for its data.
    ChannelStuck {
        /// The transport.
        id: TransportId,
    },
    /// A message arrived.
    Data {
        /// From.
        id: TransportId,
        /// The channel.
        channel: Channel,
        /// The message.
        payload: Bytes,
    },
    /// First RTP packet of a layer of an up track; SSRCs learned by RID are told here.
    LayerSeen {
        /// The track.
        up: UpTrackId,
        /// Spatial index.
        spatial: u8,
        /// The SSRC it has.
        ssrc: Ssrc,
        /// The format of its first packet.
        format: Format,
    },
    /// How loud a publisher was in the last 400 ms, linear, 0–1: while it speaks, and 0 once when it stops.
    AudioLevel {
        /// The track.
        up: UpTrackId,
        /// The level.
        level: f32,
    },
    /// First packet of a down track handed to a connected transport.
    DownStarted {
        /// The down track.
        down: DownTrackId,
    },
    /// A closed down track has sent its last packet.
    DownClosed {
        /// The down track.
        down: DownTrackId,
        /// Whether it had ever sent anything.
        sent: bool,
    },
    /// How the tracks of a transport fared in the last five seconds; told while it has any.
    Quality {
        /// The transport.
        id: TransportId,
        /// All its tracks.
        report: Box<QualityReport>,
    },
}

/// How the tracks of one transport fared since the report before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QualityReport {
    /// The round trip, when the peer's receiver reports tell it.
    pub rtt: Option<Duration>,
    /// Tracks that it publishes.
    pub ups: Vec<UpReport>,
    /// Tracks that it gets.
    pub downs: Vec<DownReport>,
}

/// One published track, all its encodings together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpReport {
    /// The track.
    pub up: UpTrackId,
    /// Packets by their sequence numbers.
    pub expected: u64,
    /// Those of them that did not come, or only as retransmissions.
    pub lost: u64,
    /// Bytes received.
    pub bytes: u64,
    /// The largest interarrival jitter of its encodings.
    pub jitter: Duration,
    /// Bit `n`: something came of the encoding with spatial index `n`.
    pub layers: u8,
}

/// One track to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownReport {
    /// The down track.
    pub down: DownTrackId,
    /// Packets sent, retransmissions not counted.
    pub sent: u32,
    /// Payload bytes sent.
    pub bytes: u32,
    /// Receiver reports that came on it.
    pub reports: u32,
    /// Packets by their sequence numbers, of which those reports speak.
    pub expected: u32,
    /// Those of them that were lost.
    pub lost: u32,
    /// Its interarrival jitter.
    pub jitter: Duration,
    /// Encodings that live and are wanted above the one that congestion allows.
    pub held_back: u8,
}

/// Counters of a worker.
#[derive(Debug, Clone, Default)]
pub struct WorkerReport {
    /// Open transports.
    pub transports: u32,
    /// Up tracks, mirrors included.
    pub up_tracks: u32,
    /// Down tracks.
    pub down_tracks: u32,
    /// RTP packets received and accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Datagrams that no rule took, by cause.
    pub dropped: Vec<(&'static str, u64)>,
    /// Share of the last second that the worker was awake, 0–1.
    pub load: f32,
}

/// A TURN or STUN server that clients are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `turn:host:port?transport=udp` and the like.
    pub urls: Vec<String>,
    /// How clients log in.
    pub login: IceLogin,
}

/// Credentials of an [`IceServer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceLogin {
    /// A STUN server.
    None,
    /// A fixed pair.
    Fixed {
        /// User.
        username: String,
        /// Password.
        credential: crate::secret::Secret<String>,
    },
    /// TURN REST (coturn's `use-auth-secret`): username `expiry:participant`, credential base64(HMAC-SHA1).
    Rest {
        /// The static secret.
        secret: crate::secret::Secret<String>,
        /// How long a pair is valid.
        ttl: Duration,
    },
}
