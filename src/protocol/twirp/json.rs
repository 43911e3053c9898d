//! Protobuf JSON as Go's protojson writes it with `UseProtoNames` and `EmitUnpopulated`: proto names, every field,
//! 64-bit numbers as strings, enums by name, `null` for a message that is absent.
//!
//! livekit-protocol's own serde writes the other form (camelCase, defaults left out), so the answers of RoomService
//! are written by hand, one line a field. The patterns have no `..`: a field that a newer livekit-protocol adds stops
//! the build here.

#![expect(
    deprecated,
    reason = "all fields are written, those that newer ones replaced too"
)]

use livekit_protocol::{
    AgentDispatch, AgentDispatchState, AudioTrackFeature, BackupCodecPolicy, Codec,
    DataTrackFrameEncoding, DataTrackInfo, DataTrackSchemaEncoding, DataTrackSchemaId,
    DisconnectReason, Job, JobRestartPolicy, JobState, JobStatus, JobType,
    ListAgentDispatchResponse, ListParticipantsResponse, MuteRoomTrackResponse,
    PacketTrailerFeature, ParticipantInfo, ParticipantPermission, PerformRpcResponse,
    RemoveParticipantResponse, Room, SimulcastCodecInfo, TimedVersion, TrackInfo, TrackSource,
    TrackType, VideoLayer, VideoQuality, client_info, data_track_frame_encoding,
    data_track_schema_encoding, encryption, participant_info, video_layer,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A message with all its fields.
#[derive(Debug)]
pub struct Full<'a, M>(pub &'a M);

/// The answer of ListRooms.
#[derive(Debug)]
pub struct Rooms<'a>(pub &'a [Arc<Room>]);

struct Name(Result<&'static str, i32>);
struct Int64(i64);
struct List<'a, M>(&'a [M]);
struct Names<'a>(&'a [i32], fn(i32) -> Result<&'static str, i32>);
struct Sorted<'a>(&'a HashMap<String, String>);

/// One line a field: its name (its JSON name where Rust's differs), and how it is written.
macro_rules! messages {
    ($($message:ident { $($field:ident $(= $name:literal)? : $form:ident $(<$of:path>)?),* $(,)? })*) => {
        $(impl Serialize for Full<'_, $message> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $message { $($field),* } = self.0;
                let mut map = serializer.serialize_map(None)?;
                $(map.serialize_entry(
                    messages!(@name $field $($name)?),
                    &messages!(@value $field $form $($of)?),
                )?;)*
                map.end()
            }
        })*
    };
    (@name $field:ident $name:literal) => { $name };
    (@name $field:ident) => { stringify!($field) };
    (@value $field:ident plain) => { $field };
    (@value $field:ident int64) => { Int64(*$field) };
    (@value $field:ident map) => { Sorted($field) };
    (@value $field:ident message) => { $field.as_ref().map(Full) };
    (@value $field:ident list) => { List($field.as_slice()) };
    (@value $field:ident name $of:path) => { Name(name_of::<$of>(*$field, <$of>::as_str_name)) };
    (@value $field:ident names $of:path) => {
        Names($field.as_slice(), |number| name_of::<$of>(number, <$of>::as_str_name))
    };
}

messages! {
    Room {
        sid: plain,
        name: plain,
        empty_timeout: plain,
        departure_timeout: plain,
        max_participants: plain,
        creation_time: int64,
        creation_time_ms: int64,
        turn_password: plain,
        enabled_codecs: list,
        metadata: plain,
        num_participants: plain,
        num_publishers: plain,
        active_recording: plain,
        version: message,
    }
    Codec { mime: plain, fmtp_line: plain }
    TimedVersion { unix_micro: int64, ticks: plain }
    ParticipantInfo {
        sid: plain,
        identity: plain,
        state: name<participant_info::State>,
        tracks: list,
        metadata: plain,
        joined_at: int64,
        joined_at_ms: int64,
        name: plain,
        version: plain,
        permission: message,
        region: plain,
        is_publisher: plain,
        kind: name<participant_info::Kind>,
        attributes: map,
        disconnect_reason: name<DisconnectReason>,
        kind_details: names<participant_info::KindDetail>,
        data_tracks: list,
        client_protocol: plain,
        capabilities: names<client_info::Capability>,
    }
    ParticipantPermission {
        can_subscribe: plain,
        can_publish: plain,
        can_publish_data: plain,
        can_publish_sources: names<TrackSource>,
        hidden: plain,
        recorder: plain,
        can_update_metadata: plain,
        agent: plain,
        can_subscribe_metrics: plain,
        can_manage_agent_session: plain,
    }
    TrackInfo {
        sid: plain,
        r#type = "type": name<TrackType>,
        name: plain,
        muted: plain,
        width: plain,
        height: plain,
        simulcast: plain,
        disable_dtx: plain,
        source: name<TrackSource>,
        layers: list,
        mime_type: plain,
        mid: plain,
        codecs: list,
        stereo: plain,
        disable_red: plain,
        encryption: name<encryption::Type>,
        stream: plain,
        version: message,
        audio_features: names<AudioTrackFeature>,
        backup_codec_policy: name<BackupCodecPolicy>,
        packet_trailer_features: names<PacketTrailerFeature>,
    }
    SimulcastCodecInfo {
        mime_type: plain,
        mid: plain,
        cid: plain,
        layers: list,
        video_layer_mode: name<video_layer::Mode>,
        sdp_cid: plain,
    }
    VideoLayer {
        quality: name<VideoQuality>,
        width: plain,
        height: plain,
        bitrate: plain,
        ssrc: plain,
        spatial_layer: plain,
        rid: plain,
        repair_ssrc: plain,
    }
    DataTrackInfo {
        pub_handle: plain,
        sid: plain,
        name: plain,
        encryption: name<encryption::Type>,
        frame_encoding: message,
        schema: message,
    }
    DataTrackSchemaId { name: plain, encoding: message }
    ListParticipantsResponse { participants: list }
    MuteRoomTrackResponse { track: message }
    PerformRpcResponse { payload: plain }
    AgentDispatch {
        id: plain,
        agent_name: plain,
        room: plain,
        metadata: plain,
        state: message,
        restart_policy: name<JobRestartPolicy>,
        deployment: plain,
        attributes: map,
    }
    AgentDispatchState { jobs: list, created_at: int64, deleted_at: int64 }
    ListAgentDispatchResponse { agent_dispatches: list }
    Job {
        id: plain,
        dispatch_id: plain,
        r#type = "type": name<JobType>,
        room: message,
        participant: message,
        namespace: plain,
        metadata: plain,
        agent_name: plain,
        state: message,
        enable_recording: plain,
        deployment: plain,
        attributes: map,
        enable_redaction: plain,
    }
    JobState {
        status: name<JobStatus>,
        error: plain,
        started_at: int64,
        ended_at: int64,
        updated_at: int64,
        participant_identity: plain,
        worker_id: plain,
        agent_id: plain,
    }
}

/// Stands for all answers without fields.
impl Serialize for Full<'_, RemoveParticipantResponse> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

/// A number that no name is known for stays a number, as in Go.
fn name_of<E: TryFrom<i32>>(
    number: i32,
    name: fn(&E) -> &'static str,
) -> Result<&'static str, i32> {
    E::try_from(number)
        .map(|value| name(&value))
        .map_err(|_| number)
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(name) => serializer.serialize_str(name),
            Err(number) => serializer.serialize_i32(number),
        }
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|number| Name((self.1)(*number))))
    }
}

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a, M> Serialize for List<'a, M>
where
    Full<'a, M>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Full))
    }
}

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().collect::<BTreeMap<_, _>>())
    }
}

impl Serialize for Rooms<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Each<'a>(&'a [Arc<Room>]);
        impl Serialize for Each<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|room| Full(room.as_ref())))
            }
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("rooms", &Each(self.0))?;
        map.end()
    }
}

/// A oneof that is not set is the one thing that `EmitUnpopulated` leaves out.
macro_rules! encodings {
    ($($message:ident $module:ident $known:ident)*) => {
        $(impl Serialize for Full<'_, $message> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                match &self.0.value {
                    Some($module::Value::WellKnown(number)) => {
                        let name = name_of::<$module::$known>(*number, $module::$known::as_str_name);
                        map.serialize_entry("well_known", &Name(name))?;
                    }
                    Some($module::Value::Custom(text)) => map.serialize_entry("custom", text)?,
                    None => {}
                }
                map.end()
            }
        })*
    };
}

encodings! {
    DataTrackFrameEncoding data_track_frame_encoding WellKnownFrameEncoding
    DataTrackSchemaEncoding data_track_schema_encoding WellKnownSchemaEncoding
}

#[cfg(test)]
mod tests {
    use super::*;
    use livekit_protocol::ListRoomsResponse;
    use serde::de::DeserializeOwned;

    /// `Method body` a line, of livekit 1.13.5.
    const RECORDED: &str = include_str!("../../../tests/fixtures/twirp.livekit.txt");

    fn again<M: DeserializeOwned>(body: &str) -> String
    where
        for<'a> Full<'a, M>: Serialize,
    {
        let message: M = serde_json::from_str(body).unwrap();
        serde_json::to_string(&Full(&message)).unwrap()
    }

    #[test]
    fn what_the_reference_answered_is_written_the_same_to_the_letter() {
        let mut seen = 0;
        for line in RECORDED.lines() {
            let (method, body) = line.split_once(' ').unwrap();
            let written = match method {
                "CreateRoom" | "UpdateRoomMetadata" => again::<Room>(body),
                "ListRooms" => {
                    let list: ListRoomsResponse = serde_json::from_str(body).unwrap();
                    let rooms: Vec<_> = list.rooms.into_iter().map(Arc::new).collect();
                    serde_json::to_string(&Rooms(&rooms)).unwrap()
                }
                "GetParticipant" | "UpdateParticipant" => again::<ParticipantInfo>(body),
                "ListParticipants" => again::<ListParticipantsResponse>(body),
                "MutePublishedTrack" => again::<MuteRoomTrackResponse>(body),
                _ => again::<RemoveParticipantResponse>(body),
            };
            assert_eq!(written, body, "{method}");
            seen += 1;
        }
        assert_eq!(seen, 19);
    }

    #[test]
    fn a_dispatch_is_written_as_recorded() {
        let body = concat!(
            r#"{"agent_dispatches":[{"id":"AD_vvVqZ5piUhEK","agent_name":"helper","room":"admin","metadata":"x","#,
            r#""state":{"jobs":[],"created_at":"1795203014830056937","deleted_at":"0"},"#,
            r#""restart_policy":"JRP_ON_FAILURE","deployment":"","attributes":{}}]}"#
        );
        assert_eq!(again::<ListAgentDispatchResponse>(body), body);
    }

    #[test]
    fn data_tracks_and_what_has_no_name_are_written_as_go_writes_them() {
        let track = DataTrackInfo {
            pub_handle: 7,
            sid: "DTR_x".to_owned(),
            name: "map".to_owned(),
            encryption: 9,
            frame_encoding: Some(DataTrackFrameEncoding {
                value: Some(data_track_frame_encoding::Value::WellKnown(2)),
            }),
            schema: Some(DataTrackSchemaId {
                name: "s".to_owned(),
                encoding: Some(DataTrackSchemaEncoding { value: None }),
            }),
        };
        assert_eq!(
            serde_json::to_string(&Full(&track)).unwrap(),
            r#"{"pub_handle":7,"sid":"DTR_x","name":"map","encryption":9,"frame_encoding":{"well_known":"WELL_KNOWN_FRAME_ENCODING_CDR"},"schema":{"name":"s","encoding":{}}}"#
        );
    }
}
