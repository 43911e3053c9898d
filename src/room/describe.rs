//! The `join` message: everything a client learns at once.

use super::participant::{Participant, Preference};
use super::{EMULATED_VERSION, Now, PROTOCOL, Room, Seat};
use crate::negotiate::Role;
use crate::plan::{Codec, IceLogin, IceServer, LocalCandidate, Proto};
use crate::protocol::livekit::{
    self as proto, ClientConfigSetting, ClientConfiguration, DisabledCodecs, JoinResponse,
    ServerInfo, participant_info,
};
use aws_lc_rs::hmac;
use base64::Engine;

/// Clients ping this often, in seconds; zero ends the Rust SDK (livekit.md 3.1).
const PING_INTERVAL_S: i32 = 5;
/// And give up after this.
const PING_TIMEOUT_S: i32 = 15;

impl Room {
    pub(super) fn join_response(&self, now: Now, seat: Seat) -> JoinResponse {
        let Some(participant) = self.participants.get(&seat) else {
            return JoinResponse::default();
        };
        let others = self
            .participants
            .values()
            .filter(|other| {
                other.seat != seat
                    && !other.permission.hidden
                    && other.state != participant_info::State::Disconnected
            })
            .map(Participant::info)
            .collect();
        JoinResponse {
            room: Some(proto::Room {
                active_recording: self.is_recorded(),
                ..self.info.clone()
            }),
            participant: Some(participant.info()),
            other_participants: others,
            server_version: EMULATED_VERSION.to_owned(),
            ice_servers: self.ice_servers(now, participant),
            subscriber_primary: participant.subscriber_primary,
            client_configuration: client_configuration(participant),
            ping_timeout: PING_TIMEOUT_S,
            ping_interval: PING_INTERVAL_S,
            server_info: Some(self.server_info()),
            sif_trailer: self.sif_trailer.to_vec(),
            enabled_publish_codecs: self.publish_codecs(participant),
            fast_publish: participant.permission.can_publish && participant.preference.is_none(),
            ..Default::default()
        }
    }

    pub(super) fn server_info(&self) -> ServerInfo {
        server_info(&self.settings.node_id)
    }

    /// The room's codecs without RTX and without what this client must not publish; VP8 and H264 first, other video,
    /// then audio.
    fn publish_codecs(&self, participant: &Participant) -> Vec<proto::Codec> {
        let allowed = |mime: &str| {
            !mime.eq_ignore_ascii_case("video/rtx") && may_go(participant, Role::Publisher, mime)
        };
        let rank = |mime: &str| match mime.to_ascii_lowercase().as_str() {
            "video/vp8" => 0,
            "video/h264" => 1,
            other if other.starts_with("video/") => 2,
            _ => 3,
        };
        let mut codecs: Vec<&String> = self
            .settings
            .defaults
            .enabled_codecs
            .iter()
            .filter(|mime| allowed(mime))
            .collect();
        codecs.sort_by_key(|mime| rank(mime));
        codecs
            .into_iter()
            .map(|mime| proto::Codec {
                mime: mime.clone(),
                fmtp_line: String::new(),
            })
            .collect()
    }

    /// The room's codecs that may go over a connection of this client's. Where one connection is for both ways, what the
    /// client is only not to publish stays: it may be received there ([`unsent`]).
    pub(super) fn codecs_of(&self, participant: &Participant, role: Role) -> Vec<Codec> {
        let enabled = self.settings.defaults.enabled_codecs.iter();
        enabled
            .filter(|mime| may_go(participant, role, mime))
            .filter_map(|mime| Codec::from_mime(mime))
            .collect()
    }

    pub(super) fn ice_servers(&self, now: Now, participant: &Participant) -> Vec<proto::IceServer> {
        let servers = self.settings.ice_servers.iter();
        let mut servers: Vec<_> = servers
            .map(|server| ice_server(now, server, participant.sid.as_str()))
            .collect();
        if servers.is_empty() && participant.wants_stun() {
            servers.extend(own_stun(&participant.candidates));
        }
        servers
    }
}

/// Our own UDP port, which answers STUN.
fn own_stun(candidates: &[LocalCandidate]) -> Option<proto::IceServer> {
    let mut udp = candidates.iter().filter(|own| own.proto == Proto::Udp);
    let first = udp.clone().next();
    let own = udp.find(|own| own.address.is_ipv4()).or(first)?;
    Some(proto::IceServer {
        urls: vec![format!("stun:{}", own.address)],
        ..Default::default()
    })
}

/// What clients and workers are told of this server.
pub fn server_info(node_id: &str) -> ServerInfo {
    ServerInfo {
        version: EMULATED_VERSION.to_owned(),
        protocol: PROTOCOL as i32,
        node_id: node_id.to_owned(),
        agent_protocol: 1,
        ..Default::default()
    }
}

/// Credentials of the TURN REST scheme: `expiry:name` and its HMAC-SHA1, as coturn's `use-auth-secret` checks them.
fn ice_server(now: Now, server: &IceServer, name: &str) -> proto::IceServer {
    let (username, credential) = match &server.login {
        IceLogin::None => (String::new(), String::new()),
        IceLogin::Fixed {
            username,
            credential,
        } => (username.clone(), credential.reveal().clone()),
        IceLogin::Rest { secret, ttl } => {
            let username = format!("{}:{name}", now.unix_s() + ttl.as_secs());
            let key = hmac::Key::new(
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                secret.reveal().as_bytes(),
            );
            let tag = hmac::sign(&key, username.as_bytes());
            let credential = base64::engine::general_purpose::STANDARD.encode(tag);
            (username, credential)
        }
    };
    proto::IceServer {
        urls: server.urls.clone(),
        username,
        credential,
    }
}

/// Codecs that a client neither publishes nor plays well (livekit 1.13.5 `pkg/clientconfiguration`).
fn disabled(participant: &Participant) -> &'static [&'static str] {
    if participant.is_safari() {
        &["video/AV1"]
    } else {
        &[]
    }
}

/// Whether a codec may go over a connection (livekit 1.13.5 `setupEnabledCodecs`).
fn may_go(participant: &Participant, role: Role, mime: &str) -> bool {
    let mut barred = disabled(participant).to_vec();
    if role == Role::Publisher {
        barred.extend(disabled_publish(participant));
    }
    !barred.iter().any(|name| name.eq_ignore_ascii_case(mime))
}

/// Codecs that a client publishes badly (livekit 1.13.5 `pkg/clientconfiguration`).
fn disabled_publish(participant: &Participant) -> Vec<&'static str> {
    let os = participant.client.os.to_ascii_lowercase();
    if participant.is_firefox() && (os.contains("linux") || os.contains("android")) {
        return vec!["video/H264"];
    }
    if participant.is_safari() && version_above(&participant.client.browser_version, (18, 3)) {
        return vec!["video/VP9"];
    }
    if participant
        .client
        .device_model
        .eq_ignore_ascii_case("xiaomi 2201117ti")
        && os == "android"
    {
        return vec!["video/H264"];
    }
    Vec::new()
}

/// The same, for negotiations.
pub(super) fn unsent(participant: &Participant) -> Vec<Codec> {
    disabled_publish(participant)
        .into_iter()
        .filter_map(Codec::from_mime)
        .collect()
}

pub(super) fn client_configuration(participant: &Participant) -> Option<ClientConfiguration> {
    let codec = |mime: &str| proto::Codec {
        mime: mime.to_owned(),
        fmtp_line: String::new(),
    };
    let publish: Vec<proto::Codec> = disabled_publish(participant)
        .into_iter()
        .map(codec)
        .collect();
    let codecs: Vec<proto::Codec> = disabled(participant)
        .iter()
        .map(|mime| codec(mime))
        .collect();
    let has_disabled = !(publish.is_empty() && codecs.is_empty());
    if !has_disabled && participant.preference.is_none() {
        return None;
    }
    let force_relay = match participant.preference {
        Some(Preference::Tls) => ClientConfigSetting::Enabled,
        Some(Preference::Tcp) | None => ClientConfigSetting::Unset,
    };
    Some(ClientConfiguration {
        disabled_codecs: has_disabled.then_some(DisabledCodecs { codecs, publish }),
        force_relay: force_relay as i32,
        ..Default::default()
    })
}

fn version_above(version: &str, limit: (u32, u32)) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) > limit
}
