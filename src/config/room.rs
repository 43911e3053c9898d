//! Defaults of rooms, and limits.

use crate::config::read::Reader;
use crate::config::{Limits, Room};
use crate::options::yaml::Value;
use crate::plan::Codec;
use std::time::Duration;

/// Bytes of the largest message that any setting allows: half of what a client may send at once.
const MAX_MESSAGE_SIZE: usize = 4 << 20;

pub(crate) fn room(reader: &mut Reader<'_>) -> Room {
    let default = Room::default();
    let path = "room.room_configurations";
    let mut presets = default.presets;
    if let Some(node) = reader.root.at(path) {
        if matches!(node.value, Value::Map(_)) {
            for (name, preset) in node.entries() {
                presets.insert(name.clone(), preset.to_json());
            }
        } else {
            reader.found.problem(
                path,
                node.line,
                "this wants a map of names and settings",
                "type a name and a colon, and the settings below it, indented",
            );
        }
    }
    Room {
        auto_create: reader.boolean("room.auto_create", default.auto_create),
        max_participants: reader.count("room.max_participants", default.max_participants),
        empty_timeout: seconds(reader, "room.empty_timeout", default.empty_timeout),
        departure_timeout: seconds(reader, "room.departure_timeout", default.departure_timeout),
        enabled_codecs: codecs(reader, default.enabled_codecs),
        sync_streams: reader.boolean("room.sync_streams", default.sync_streams),
        playout_delay: playout_delay(reader),
        enable_data_tracks: reader.boolean("enable_data_tracks", default.enable_data_tracks),
        enable_participant_data_blob: reader.boolean(
            "enable_participant_data_blob",
            default.enable_participant_data_blob,
        ),
        enable_remote_unmute: reader
            .boolean("room.enable_remote_unmute", default.enable_remote_unmute),
        enable_full_room_in_webhooks: reader.boolean(
            "room.enable_full_room_in_webhooks",
            default.enable_full_room_in_webhooks,
        ),
        presets,
    }
}

/// In milliseconds, as livekit-server has it; a `max` of 0 sets no bound.
fn playout_delay(reader: &mut Reader<'_>) -> Option<(Duration, Duration)> {
    let is_on = reader.boolean("room.playout_delay.enabled", false);
    let mut ms = |name: &str| {
        let ms = reader.count(&format!("room.playout_delay.{name}"), 0);
        Duration::from_millis(u64::from(ms))
    };
    let (min, max) = (ms("min"), ms("max"));
    is_on.then_some((min, max))
}

/// Whole seconds: that is how clients are told.
fn seconds(reader: &mut Reader<'_>, path: &str, default: Duration) -> Duration {
    Duration::from_secs(reader.duration(path, default).as_secs())
}

fn codecs(reader: &mut Reader<'_>, default: Vec<String>) -> Vec<String> {
    let mut codecs: Vec<String> = Vec::new();
    for (path, node) in reader.items("room.enabled_codecs") {
        let mime = match &node.value {
            Value::Map(_) => node.at("mime").unwrap_or(node),
            Value::List(_) | Value::Null | Value::Text { .. } => node,
        };
        let Some((mime, line)) = reader.text_of(&path, mime) else {
            continue;
        };
        if Codec::from_mime(mime).is_none() && !mime.eq_ignore_ascii_case("video/rtx") {
            reader.found.warning(
                &path,
                line,
                format!("{mime} is not forwarded by this server"),
            );
        } else if !codecs.iter().any(|codec| codec.eq_ignore_ascii_case(mime)) {
            codecs.push(mime.to_owned());
        }
    }
    if codecs.is_empty() { default } else { codecs }
}

pub(crate) fn limits(reader: &mut Reader<'_>) -> Limits {
    let default = Limits::default();
    // Names that LiveKit has moved from `room` to `limit`; 0 there means "as by default".
    let mut moved = |name: &str, default: usize| {
        let old = reader.count(&format!("room.{name}"), 0) as usize;
        let default = if old > 0 { old } else { default };
        reader.count(&format!("limit.{name}"), default as u32) as usize
    };
    let max_metadata_size = moved("max_metadata_size", default.max_metadata_size);
    let max_room_name_length = moved("max_room_name_length", default.max_room_name_length);
    let max_participant_identity_length = moved(
        "max_participant_identity_length",
        default.max_participant_identity_length,
    );
    let mut size = |name: &str, default: usize| {
        reader.count(&format!("limit.{name}"), default as u32) as usize
    };
    Limits {
        max_metadata_size,
        max_room_name_length,
        max_participant_identity_length,
        max_attributes_size: size("max_attributes_size", default.max_attributes_size),
        max_participant_name_length: size(
            "max_participant_name_length",
            default.max_participant_name_length,
        ),
        max_data_blob_key_length: size(
            "max_data_blob_key_length",
            default.max_data_blob_key_length,
        ),
        max_data_blobs_size: size("max_data_blobs_size", default.max_data_blobs_size),
        signal_message_size: bounded(size(
            "signal_message_size_limit",
            default.signal_message_size,
        )),
        agent_message_size: bounded(size(
            "agent_signal_message_size_limit",
            default.agent_message_size,
        )),
        num_tracks: tracks(reader),
        bytes_per_sec: bytes_per_second(reader),
        subscription_limit_video: reader.count("limit.subscription_limit_video", 0),
        subscription_limit_audio: reader.count("limit.subscription_limit_audio", 0),
    }
}

/// LiveKit takes 0 for "no limit"; there is one.
fn bounded(size: usize) -> usize {
    match size {
        0 => MAX_MESSAGE_SIZE,
        size => size.min(MAX_MESSAGE_SIZE),
    }
}

/// LiveKit takes -1 for "no limit" too.
fn tracks(reader: &mut Reader<'_>) -> u32 {
    match reader.text("limit.num_tracks") {
        Some(("-1", _)) => 0,
        _ => reader.count("limit.num_tracks", 0),
    }
}

fn bytes_per_second(reader: &mut Reader<'_>) -> f32 {
    let path = "limit.bytes_per_sec";
    let Some((text, line)) = reader.text(path) else {
        return 0.0;
    };
    match text.replace('_', "").parse::<f32>() {
        Ok(-1.0) => 0.0,
        Ok(number) if number.is_finite() && number >= 0.0 => number,
        _ => {
            reader.found.problem(
                path,
                line,
                format!("{text:?} is no number of bytes"),
                "type a number such as 125_000_000, or 0 for no limit",
            );
            0.0
        }
    }
}
