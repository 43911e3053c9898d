//! Access tokens: claims, verification, signing.
//!
//! JWT (RFC 7519) with HS256 only; the issuer is the API key, whose secret is the HMAC key. Time is an argument.
//! Texts of faults are those of livekit 1.13.5 (`pkg/service/auth.go`) and golang-jwt: clients and people search for them.

use crate::config::Keys;
use crate::protocol::livekit::RoomConfiguration;
use crate::protocol::protojson;
use crate::secret::Secret;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Clocks of servers that make tokens may be wrong by this much (livekit `auth.DefaultLeeway`).
const LEEWAY_S: u64 = 60;

/// Longest token that is looked at. hyper takes URLs up to 64 kB, headers up to a few hundred.
const MAX_TOKEN: usize = 128 * 1024;

/// Claims of an access token. Unknown claims are ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Claims {
    /// The API key.
    pub iss: String,
    /// The identity.
    pub sub: String,
    /// Seconds since 1970; required in a token, 0 only before it has been set.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: u64,
    /// Not valid before: seconds since 1970; 0: from ever.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "numeric_date")]
    pub nbf: u64,
    /// Issued at: seconds since 1970; 0: not said.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "numeric_date")]
    pub iat: u64,
    /// Fallback of `sub`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Display name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Metadata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Attributes.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub attributes: HashMap<String, String>,
    /// `standard`, `agent`, `egress`, … or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Further words on the kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kind_details: Vec<String>,
    /// Hash of a webhook's body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Grants; `None`: no permission for rooms at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    /// Grants of telephony; `None`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip: Option<SipGrant>,
    /// Applied when this join creates the room: JSON of `RoomConfiguration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<Value>,
    /// A named preset of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room_preset: String,
}

/// The `sip` grant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SipGrant {
    /// May administer trunks and rules.
    #[serde(skip_serializing_if = "is_false")]
    pub admin: bool,
    /// May call.
    #[serde(skip_serializing_if = "is_false")]
    pub call: bool,
}

/// The `video` grant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VideoGrant {
    /// May join `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    /// The room.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// May create and delete rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    /// May list rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    /// May start recordings.
    #[serde(skip_serializing_if = "is_false")]
    pub room_record: bool,
    /// May administer `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    /// May administer ingress.
    #[serde(skip_serializing_if = "is_false")]
    pub ingress_admin: bool,
    /// Where participants may be moved to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_room: String,
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// Default: as `can_publish`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// `camera`, `microphone`, `screen_share`, `screen_share_audio`; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_publish_sources: Vec<String>,
    /// Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    /// Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
    /// Not shown to others.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// A recorder.
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    /// An agent worker, or an agent.
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// A NumericDate (RFC 7519 §2): a JSON number that may have a fraction.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    // A float casts to an integer with saturation; 53 bits hold every second of interest.
    Ok(seconds as u64)
}

/// Why a token is refused, in the words that the client gets with 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// `exp` has passed.
    #[error("invalid authorization token: token has invalid claims: token is expired")]
    Expired,
    /// There is no `exp`.
    #[error(
        "invalid authorization token: token has invalid claims: token is missing required claim: exp claim is required"
    )]
    ExpiryMissing,
    /// Not three parts of base64url, or what is in them is not a token's JSON.
    #[error("invalid authorization token")]
    Malformed,
    /// `roomConfig` is no `RoomConfiguration`.
    #[error("invalid authorization token: roomConfig: {0}")]
    RoomConfig(String),
    /// Signed in another way than HS256.
    #[error(
        "invalid authorization token: token signature is invalid: signing method {0} is invalid"
    )]
    Method(String),
    /// `nbf` has not come.
    #[error("invalid authorization token: token has invalid claims: token is not valid yet")]
    NotYetValid,
    /// The secret is another one.
    #[error("invalid authorization token: token signature is invalid: signature is invalid")]
    Signature,
    /// Nobody configured the API key that `iss` names.
    #[error("invalid API key")]
    UnknownKey,
}

/// Checks a token, and returns its claims and the API key that signed it.
///
/// `now_unix` is in seconds since 1970.
pub fn verify(now_unix: u64, token: &str, keys: &Keys) -> Result<(Claims, String), TokenFault> {
    if token.len() > MAX_TOKEN {
        return Err(TokenFault::Malformed);
    }
    let unverified: Value = jsonwebtoken::dangerous::insecure_decode_claims(token)
        .map_err(|_| TokenFault::Malformed)?;
    let issuer = unverified
        .get("iss")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let secret = keys.secret(issuer).ok_or(TokenFault::UnknownKey)?;
    let header = jsonwebtoken::decode_header(token).map_err(|_| unreadable_header(token))?;
    if header.alg != Algorithm::HS256 {
        return Err(TokenFault::Method(format!("{:?}", header.alg)));
    }

    let mut validation = Validation::new(Algorithm::HS256);
    // Time is ours to judge, and an audience means nothing here.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(secret.reveal().as_bytes());
    let data =
        jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(|error| {
            match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::Base64(_) => TokenFault::Signature,
                _ => TokenFault::Malformed,
            }
        })?;

    let mut claims: Claims =
        serde_json::from_value(without_nulls(data.claims)).map_err(|_| TokenFault::Malformed)?;
    claims.room_configuration()?;
    if claims.exp == 0 {
        return Err(TokenFault::ExpiryMissing);
    }
    if now_unix >= claims.exp.saturating_add(LEEWAY_S) {
        return Err(TokenFault::Expired);
    }
    if now_unix.saturating_add(LEEWAY_S) < claims.nbf {
        return Err(TokenFault::NotYetValid);
    }
    if claims.sub.is_empty() {
        claims.sub.clone_from(&claims.jti);
    }
    let api_key = claims.iss.clone();
    Ok((claims, api_key))
}

/// Signs claims with HS256. They are written as they stand: `iss`, `exp` and the rest are the caller's.
pub fn sign(claims: &Claims, secret: &Secret<String>) -> String {
    let key = EncodingKey::from_secret(secret.reveal().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .expect("claims are plain JSON, and HMAC takes a key of any length")
}

impl Claims {
    /// When the token was issued, as far as it says so: seconds since 1970, or 0.
    pub fn issued(&self) -> u64 {
        self.nbf.max(self.iat)
    }

    /// What the token says of a room that its join creates.
    pub fn room_configuration(&self) -> Result<Option<RoomConfiguration>, TokenFault> {
        let Some(value) = &self.room_config else {
            return Ok(None);
        };
        protojson::read(value.to_string().as_bytes())
            .map(Some)
            .map_err(|error| TokenFault::RoomConfig(error.to_string()))
    }

    /// Claims of a participant who may join, publish and subscribe.
    ///
    /// `now_unix` is in seconds since 1970.
    pub fn for_join(
        api_key: &str,
        room: &str,
        identity: &str,
        now_unix: u64,
        lifetime: Duration,
    ) -> Self {
        Self {
            iss: api_key.to_owned(),
            sub: identity.to_owned(),
            nbf: now_unix,
            exp: now_unix.saturating_add(lifetime.as_secs()),
            video: Some(VideoGrant {
                room_join: true,
                room: room.to_owned(),
                ..VideoGrant::default()
            }),
            ..Self::default()
        }
    }
}

/// jsonwebtoken does not read a header whose `alg` it does not know (`none` above all); golang-jwt names it.
fn unreadable_header(token: &str) -> TokenFault {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    token
        .split('.')
        .next()
        .and_then(|header| engine.decode(header).ok())
        .and_then(|json| serde_json::from_slice::<Value>(&json).ok())
        .and_then(|header| Some(header.get("alg")?.as_str()?.to_owned()))
        .filter(|name| name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map_or(TokenFault::Malformed, TokenFault::Method)
}

/// Go reads `null` as the default, and servers written in other languages do send it.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                // `roomConfig` is kept as it is; only our own types need this.
                let value = if matches!(name.as_str(), "video" | "sip" | "attributes") {
                    without_nulls(value)
                } else {
                    value
                };
                (name, value)
            })
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
