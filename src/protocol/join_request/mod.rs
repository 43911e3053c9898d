//! From what a client sends with `/rtc` or `/rtc/v1` to a [`Join`].
//!
//! Two forms: query parameters (v0), and `join_request`, a wrapped protobuf message (v1, and v0 when it is there).
//! Followed is livekit 1.13.5 `pkg/service/rtcservice.go`. Defaults differ between the two: what the message
//! leaves out is false, what the query leaves out is what clients wanted before there was a choice.

use crate::protocol::join::{Join, Resume};
use crate::protocol::livekit::client_info::{Capability, Sdk};
use crate::protocol::livekit::wrapped_join_request::Compression;
use crate::protocol::livekit::{ClientInfo, JoinRequest, ReconnectReason, WrappedJoinRequest};
use crate::protocol::token::Claims;
use crate::protocol::user_agent;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message;
use std::collections::HashMap;
use std::io::Read;

/// The newest protocol that this server speaks (livekit 1.13.5 `types.CurrentProtocol`).
pub const PROTOCOL: u32 = 17;

/// A join request may be this large when inflated (livekit: `http.DefaultMaxHeaderBytes`).
const MAX_INFLATED: u64 = 1 << 20;

/// Clients differ in padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a join cannot be read, in the words that the client gets with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinFault {
    /// `attributes` is no base64 of a JSON object of strings.
    #[error("cannot decode attributes")]
    Attributes,
    /// No base64.
    #[error("cannot base64 decode wrapped join request")]
    Base64,
    /// No gzip, though it says so.
    #[error("cannot decompress join request")]
    Gzip,
    /// `/rtc/v1` without it.
    #[error("join_request is required")]
    Missing,
    /// More than 1 MiB.
    #[error("join request too large")]
    TooLarge,
    /// No protobuf.
    #[error("cannot unmarshal join request")]
    Unreadable,
    /// No protobuf, or a compression that nobody knows.
    #[error("cannot unmarshal wrapped join request")]
    WrappingUnreadable,
}

/// Query parameters.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parameters that are decoded already.
    pub fn new(parameters: Vec<(String, String)>) -> Self {
        Self(parameters)
    }

    /// The first parameter of that name; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), "1" | "true")
    }

    /// `None` when the parameter is missing or empty.
    fn choice(&self, name: &str) -> Option<bool> {
        (!self.get(name).is_empty()).then(|| self.is_true(name))
    }

    /// 0 when the parameter is missing or no number.
    fn number(&self, name: &str) -> i32 {
        self.get(name).parse().unwrap_or(0)
    }
}

/// What the request tells of the client beside the query.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The `User-Agent` header; may be empty.
    pub user_agent: &'a str,
    /// The client's address, as text.
    pub address: &'a str,
}

/// Reads a join in whichever form it came. `must_wrap`: only a `join_request` will do (`/rtc/v1`).
pub fn read(
    query: &Query,
    must_wrap: bool,
    claims: Claims,
    api_key: String,
    caller: Caller<'_>,
) -> Result<Join, JoinFault> {
    let wrapped = query.get("join_request");
    if !wrapped.is_empty() {
        return Ok(from_request(decode(wrapped)?, claims, api_key, caller));
    }
    if must_wrap {
        return Err(JoinFault::Missing);
    }
    Ok(from_query(query, claims, api_key, caller))
}

/// Whether the `attributes` of a query can be read. Who asks `validate` is told, who joins just has none (livekit
/// 1.13.5 `rtcservice.go`, `validateInternal`).
pub fn check_attributes(query: &Query) -> Result<(), JoinFault> {
    if query.get("join_request").is_empty() {
        attributes(query.get("attributes"))?;
    }
    Ok(())
}

/// Unwraps a `join_request`.
pub fn decode(text: &str) -> Result<JoinRequest, JoinFault> {
    // The standard alphabet is tolerated; its `+` arrives as a space when nobody escaped it.
    let text: String = text
        .chars()
        .map(|c| match c {
            '+' | ' ' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    let bytes = BASE64.decode(text).map_err(|_| JoinFault::Base64)?;
    let wrapped = WrappedJoinRequest::decode(&*bytes).map_err(|_| JoinFault::WrappingUnreadable)?;
    let compression =
        Compression::try_from(wrapped.compression).map_err(|_| JoinFault::WrappingUnreadable)?;
    let message = match compression {
        Compression::None => wrapped.join_request,
        Compression::Gzip => inflate(&wrapped.join_request)?,
    };
    if message.len() as u64 > MAX_INFLATED {
        return Err(JoinFault::TooLarge);
    }
    JoinRequest::decode(&*message).map_err(|_| JoinFault::Unreadable)
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, JoinFault> {
    let mut inflated = Vec::new();
    flate2::read::GzDecoder::new(compressed)
        .take(MAX_INFLATED + 1)
        .read_to_end(&mut inflated)
        .map_err(|_| JoinFault::Gzip)?;
    Ok(inflated)
}

fn from_request(request: JoinRequest, claims: Claims, api_key: String, caller: Caller<'_>) -> Join {
    let settings = request.connection_settings.unwrap_or_default();
    let client = completed(request.client_info.unwrap_or_default(), caller);
    Join {
        claims,
        api_key,
        protocol: protocol(client.protocol),
        client,
        single_pc: true,
        auto_subscribe: settings.auto_subscribe,
        auto_subscribe_data_track: settings.auto_subscribe_data_track.unwrap_or(false),
        adaptive_stream: settings.adaptive_stream,
        subscriber_allow_pause: Some(settings.subscriber_allow_pause.unwrap_or(false)),
        disable_ice_lite: settings.disable_ice_lite,
        metadata: request.metadata,
        attributes: request.participant_attributes,
        publish: None,
        add_tracks: request.add_track_requests,
        publisher_offer: request.publisher_offer,
        resume: request.reconnect.then(|| Resume {
            participant_sid: request.participant_sid,
            reason: reason(request.reconnect_reason),
            sync_state: request.sync_state,
        }),
    }
}

fn from_query(query: &Query, claims: Claims, api_key: String, caller: Caller<'_>) -> Join {
    let client = completed(client_of(query), caller);
    Join {
        claims,
        api_key,
        protocol: protocol(client.protocol),
        client,
        single_pc: false,
        auto_subscribe: query.choice("auto_subscribe").unwrap_or(true),
        auto_subscribe_data_track: query.is_true("auto_subscribe_data_track"),
        adaptive_stream: query.is_true("adaptive_stream"),
        subscriber_allow_pause: query.choice("subscriber_allow_pause"),
        disable_ice_lite: query.is_true("disable_ice_lite"),
        metadata: String::new(),
        attributes: attributes(query.get("attributes")).unwrap_or_default(),
        publish: Some(query.get("publish").to_owned()).filter(|suffix| !suffix.is_empty()),
        add_tracks: Vec::new(),
        publisher_offer: None,
        resume: query.is_true("reconnect").then(|| Resume {
            participant_sid: query.get("sid").to_owned(),
            reason: reason(query.number("reconnect_reason")),
            sync_state: None,
        }),
    }
}

fn attributes(text: &str) -> Result<HashMap<String, String>, JoinFault> {
    if text.is_empty() {
        return Ok(HashMap::new());
    }
    let json = BASE64.decode(text).map_err(|_| JoinFault::Attributes)?;
    serde_json::from_slice(&json).map_err(|_| JoinFault::Attributes)
}

fn client_of(query: &Query) -> ClientInfo {
    let sdk = match query.get("sdk") {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "unreal" => Sdk::Unreal,
        "esp32" => Sdk::Esp32,
        "dotnet" => Sdk::Dotnet,
        _ => Sdk::Unknown,
    };
    ClientInfo {
        sdk: sdk.into(),
        version: query.get("version").to_owned(),
        protocol: query.number("protocol"),
        os: query.get("os").to_owned(),
        os_version: query.get("os_version").to_owned(),
        device_model: query.get("device_model").to_owned(),
        browser: query.get("browser").to_owned(),
        browser_version: query.get("browser_version").to_owned(),
        network: query.get("network").to_owned(),
        client_protocol: query.number("client_protocol"),
        capabilities: query
            .get("capabilities")
            .split(',')
            .filter_map(|name| Capability::from_str_name(name.trim()))
            .map(i32::from)
            .collect(),
        ..ClientInfo::default()
    }
}

/// Adds the address and, for SDKs that run in browsers, what the User-Agent tells and the client did not.
fn completed(mut client: ClientInfo, caller: Caller<'_>) -> ClientInfo {
    caller.address.clone_into(&mut client.address);
    let in_browsers = matches!(
        client.sdk(),
        Sdk::Js | Sdk::ReactNative | Sdk::Flutter | Sdk::Unity | Sdk::UnityWeb | Sdk::Unknown
    );
    if in_browsers {
        let read = user_agent::parse(caller.user_agent);
        if client.browser.is_empty() {
            read.browser.clone_into(&mut client.browser);
            read.browser_version.clone_into(&mut client.browser_version);
        }
        if client.os.is_empty() {
            read.os.clone_into(&mut client.os);
            client.os_version = read.os_version.replace('_', ".");
        }
        if client.device_model.is_empty() {
            read.device.clone_into(&mut client.device_model);
        }
    }
    client
}

fn protocol(claimed: i32) -> u32 {
    u32::try_from(claimed).unwrap_or(0).min(PROTOCOL)
}

fn reason(number: i32) -> ReconnectReason {
    ReconnectReason::try_from(number).unwrap_or(ReconnectReason::RrUnknown)
}

#[cfg(test)]
mod tests;
