//! Data blobs: what a participant leaves under a key for the others to fetch, such as the schema of a data track
//! (livekit 1.13.5 `pkg/rtc/participant_data_blob_handler.go`). Only with `enable_participant_data_blob`.

use super::data_track::is_encoding_in_bounds;
use super::{Room, Seat};
use crate::protocol::livekit::{
    DataBlob, DataBlobKey, GetDataBlobRequest, GetDataBlobResponse, StoreDataBlobRequest,
    StoreDataBlobResponse, data_blob_key::Key, request_response::Reason, signal_response,
};
use std::collections::HashMap;

/// What one participant has left.
#[derive(Debug, Default)]
pub(super) struct Blobs(HashMap<Key, Vec<u8>>);

impl Blobs {
    /// Bytes of all keys and contents.
    fn size(&self) -> usize {
        self.0
            .iter()
            .map(|(key, contents)| name_of(key).len() + contents.len())
            .sum()
    }
}

fn name_of(key: &Key) -> &str {
    match key {
        Key::Generic(name) => name,
        Key::SchemaId(schema) => &schema.name,
    }
}

impl Room {
    pub(super) fn store_data_blob(&mut self, seat: Seat, request: StoreDataBlobRequest) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let limits = &self.settings.limits;
        let over = |most: usize, size: usize| most > 0 && size > most;
        let blob = request.blob.unwrap_or_default();
        let key = blob.key.and_then(|key| key.key);
        let contents = blob.contents;
        let size = participant.blobs.size() + contents.len();
        let refusal = if self.settings.defaults.enable_participant_data_blob {
            match &key {
                None => Some((Reason::InvalidRequest, "the blob has no key")),
                Some(key) if name_of(key).is_empty() => {
                    Some((Reason::InvalidRequest, "the blob's key is empty"))
                }
                Some(key) if over(limits.max_data_blob_key_length, name_of(key).len()) => {
                    Some((Reason::InvalidRequest, "the blob's key is too long"))
                }
                Some(Key::SchemaId(schema)) if !is_encoding_in_bounds(schema) => Some((
                    Reason::InvalidRequest,
                    "the schema's encoding is empty or longer than 32 bytes",
                )),
                Some(_) if contents.is_empty() => {
                    Some((Reason::InvalidRequest, "the blob is empty"))
                }
                Some(key) if over(limits.max_data_blobs_size, size + name_of(key).len()) => {
                    Some((Reason::LimitExceeded, "too much is stored"))
                }
                Some(_) => None,
            }
        } else {
            Some((Reason::NotAllowed, "data blobs are not enabled"))
        };
        if let Some((reason, text)) = refusal {
            return self.refuse(seat, request.request_id, reason, text, None);
        }
        if let (Some(participant), Some(key)) = (self.participants.get_mut(&seat), key.clone()) {
            participant.blobs.0.insert(key, contents);
        }
        let response = StoreDataBlobResponse {
            request_id: request.request_id,
            key: Some(DataBlobKey { key }),
        };
        self.send(
            seat,
            signal_response::Message::StoreDataBlobResponse(response),
        );
    }

    pub(super) fn get_data_blob(&mut self, seat: Seat, request: GetDataBlobRequest) {
        let id = request.request_id;
        let Some(key) = request.key.and_then(|key| key.key) else {
            return self.refuse(seat, id, Reason::InvalidRequest, "no key", None);
        };
        let owner = self
            .identities
            .get(request.participant_identity.as_str())
            .and_then(|owner| self.participants.get(owner));
        let Some(owner) = owner else {
            return self.refuse(seat, id, Reason::NotFound, "no such participant", None);
        };
        let Some(contents) = owner.blobs.0.get(&key).cloned() else {
            return self.refuse(seat, id, Reason::NotFound, "no such data blob", None);
        };
        let response = GetDataBlobResponse {
            request_id: id,
            blob: Some(DataBlob {
                key: Some(DataBlobKey { key: Some(key) }),
                contents,
            }),
        };
        self.send(
            seat,
            signal_response::Message::GetDataBlobResponse(response),
        );
    }
}
