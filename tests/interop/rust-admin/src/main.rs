//! The server SDK for Rust, driven from outside: reads calls from standard input, one JSON object a line, and writes
//! one line for each: `{"answer": …}` or `{"error": {…}}`. Messages are written in protobuf's JSON mapping, so that
//! whoever drives it sees the fields that the crate decoded. Ends with its input.
//!
//!     rust-admin URL KEY SECRET

use livekit_api::access_token::{AccessToken, TokenVerifier, VideoGrants};
use livekit_api::services::agent_dispatch::AgentDispatchClient;
use livekit_api::services::egress::{EgressClient, EgressListFilter, EgressListOptions};
use livekit_api::services::room::{
    CreateRoomOptions, RemoveParticipantOptions, RoomClient, SendDataOptions,
    UpdateParticipantOptions,
};
use livekit_api::services::{ServerError, ServiceError};
use livekit_api::webhooks::WebhookReceiver;
use livekit_protocol as proto;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead, Write};

#[derive(Deserialize)]
#[serde(
    tag = "call",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Call {
    CreateRoom {
        name: String,
        #[serde(default)]
        empty_timeout: u32,
        #[serde(default)]
        departure_timeout: u32,
        #[serde(default)]
        max_participants: u32,
        #[serde(default)]
        metadata: String,
        /// Shortest and longest, in milliseconds: another function of the crate.
        playout_delay: Option<(u32, u32)>,
    },
    ListRooms {
        #[serde(default)]
        names: Vec<String>,
    },
    DeleteRoom {
        room: String,
    },
    UpdateRoomMetadata {
        room: String,
        metadata: String,
    },
    ListParticipants {
        room: String,
    },
    GetParticipant {
        room: String,
        identity: String,
    },
    RemoveParticipant {
        room: String,
        identity: String,
        revoke_token_ts: Option<i64>,
    },
    ForwardParticipant {
        room: String,
        identity: String,
        destination_room: String,
    },
    MoveParticipant {
        room: String,
        identity: String,
        destination_room: String,
    },
    MutePublishedTrack {
        room: String,
        identity: String,
        track_sid: String,
        muted: bool,
    },
    UpdateParticipant {
        room: String,
        identity: String,
        #[serde(default)]
        metadata: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        attributes: HashMap<String, String>,
        permission: Option<proto::ParticipantPermission>,
    },
    UpdateSubscriptions {
        room: String,
        identity: String,
        track_sids: Vec<String>,
        subscribe: bool,
    },
    SendData {
        room: String,
        text: String,
        topic: Option<String>,
        #[serde(default)]
        destination_identities: Vec<String>,
    },
    CreateDispatch(proto::CreateAgentDispatchRequest),
    ListDispatch {
        room: String,
    },
    GetDispatch {
        id: String,
        room: String,
    },
    DeleteDispatch {
        id: String,
        room: String,
    },
    ListEgress {
        room: String,
    },
    /// An access token.
    Token {
        identity: String,
        room: String,
        can_publish: bool,
    },
    /// A webhook as it was posted.
    Webhook {
        body: String,
        authorization: String,
    },
}

struct Sdk {
    key: String,
    secret: String,
    rooms: RoomClient,
    dispatches: AgentDispatchClient,
    egress: EgressClient,
    webhooks: WebhookReceiver,
}

impl Sdk {
    fn new(url: &str, key: &str, secret: &str) -> Self {
        Self {
            key: key.to_owned(),
            secret: secret.to_owned(),
            rooms: RoomClient::with_api_key(url, key, secret),
            dispatches: AgentDispatchClient::with_api_key(url, key, secret),
            egress: EgressClient::with_api_key(url, key, secret),
            webhooks: WebhookReceiver::new(TokenVerifier::with_api_key(key, secret)),
        }
    }

    async fn run(&self, call: Call) -> Result<Value, Value> {
        match call {
            Call::Token {
                identity,
                room,
                can_publish,
            } => {
                let grants = VideoGrants {
                    room_join: true,
                    room,
                    can_publish: Some(can_publish),
                    can_subscribe: Some(true),
                    can_publish_data: Some(true),
                    ..Default::default()
                };
                let token = AccessToken::with_api_key(&self.key, &self.secret)
                    .with_identity(&identity)
                    .with_name(&identity)
                    .with_grants(grants);
                token.to_jwt().map(Value::from).map_err(|e| told(&e))
            }
            Call::Webhook {
                body,
                authorization,
            } => match self.webhooks.receive(&body, &authorization) {
                Ok(event) => Ok(json(&event)),
                Err(e) => Err(told(&e)),
            },
            call => self.serve(call).await.map_err(|e| described(&e)),
        }
    }

    /// What the server is asked.
    async fn serve(&self, call: Call) -> Result<Value, ServiceError> {
        let Self {
            rooms,
            dispatches,
            egress,
            ..
        } = self;
        Ok(match call {
            Call::CreateRoom {
                name,
                empty_timeout,
                departure_timeout,
                max_participants,
                metadata,
                playout_delay,
            } => {
                let options = CreateRoomOptions {
                    empty_timeout,
                    departure_timeout,
                    max_participants,
                    metadata,
                    ..Default::default()
                };
                json(&match playout_delay {
                    None => rooms.create_room(&name, options).await?,
                    Some((min, max)) => {
                        let made = rooms.create_room_with_playout_delay(&name, options, min, max);
                        made.await?
                    }
                })
            }
            Call::ListRooms { names } => json(&rooms.list_rooms(names).await?),
            Call::DeleteRoom { room } => json(&rooms.delete_room(&room).await?),
            Call::UpdateRoomMetadata { room, metadata } => {
                json(&rooms.update_room_metadata(&room, &metadata).await?)
            }
            Call::ListParticipants { room } => json(&rooms.list_participants(&room).await?),
            Call::GetParticipant { room, identity } => {
                json(&rooms.get_participant(&room, &identity).await?)
            }
            Call::RemoveParticipant {
                room,
                identity,
                revoke_token_ts,
            } => json(&match revoke_token_ts {
                None => rooms.remove_participant(&room, &identity).await?,
                Some(revoke_token_ts) => {
                    let options = RemoveParticipantOptions { revoke_token_ts };
                    let removed = rooms.remove_participant_with_options(&room, &identity, options);
                    removed.await?
                }
            }),
            Call::ForwardParticipant {
                room,
                identity,
                destination_room,
            } => {
                let done = rooms.forward_participant(&room, &identity, &destination_room);
                json(&done.await?)
            }
            Call::MoveParticipant {
                room,
                identity,
                destination_room,
            } => {
                let done = rooms.move_participant(&room, &identity, &destination_room);
                json(&done.await?)
            }
            Call::MutePublishedTrack {
                room,
                identity,
                track_sid,
                muted,
            } => {
                let track = rooms.mute_published_track(&room, &identity, &track_sid, muted);
                json(&track.await?)
            }
            Call::UpdateParticipant {
                room,
                identity,
                metadata,
                name,
                attributes,
                permission,
            } => {
                let options = UpdateParticipantOptions {
                    metadata,
                    attributes,
                    permission,
                    name,
                };
                json(&rooms.update_participant(&room, &identity, options).await?)
            }
            Call::UpdateSubscriptions {
                room,
                identity,
                track_sids,
                subscribe,
            } => {
                let done = rooms.update_subscriptions(&room, &identity, track_sids, subscribe);
                json(&done.await?)
            }
            Call::SendData {
                room,
                text,
                topic,
                destination_identities,
            } => {
                let options = SendDataOptions {
                    kind: proto::data_packet::Kind::Reliable,
                    topic,
                    destination_identities,
                    ..Default::default()
                };
                json(&rooms.send_data(&room, text.into_bytes(), options).await?)
            }
            Call::CreateDispatch(request) => json(&dispatches.create_dispatch(request).await?),
            Call::ListDispatch { room } => json(&dispatches.list_dispatch(room).await?),
            Call::GetDispatch { id, room } => json(&dispatches.get_dispatch(id, room).await?),
            Call::DeleteDispatch { id, room } => json(&dispatches.delete_dispatch(id, room).await?),
            Call::ListEgress { room } => {
                let options = EgressListOptions {
                    filter: EgressListFilter::Room(room),
                    active: false,
                    page_token: None,
                };
                json(&egress.list_egress(options).await?)
            }
            Call::Token { .. } | Call::Webhook { .. } => unreachable!("the server is not asked"),
        })
    }
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("every message has a JSON form")
}

fn told(e: &impl ToString) -> Value {
    json!({ "message": e.to_string() })
}

/// `code`: what Twirp's answer says. `undecodable`: the server answered what is no error of Twirp's, and the crate keeps
/// nothing of it, not even the status.
fn described(e: &ServiceError) -> Value {
    match e {
        ServiceError::Twirp(ServerError::Twirp(e)) => json!({ "code": e.code, "message": e.msg }),
        ServiceError::Twirp(ServerError::Request(inner)) => {
            json!({ "message": e.to_string(), "undecodable": inner.is_decode() })
        }
        _ => told(e),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, secret] = args.as_slice() else {
        eprintln!("usage: rust-admin URL KEY SECRET");
        std::process::exit(2);
    };
    let sdk = Sdk::new(url, key, secret);
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(call) => sdk.run(call).await,
            Err(e) => Err(told(&e)),
        };
        let answer = match answer {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}
