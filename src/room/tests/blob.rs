//! Data blobs: left by one, fetched by others, within bounds.

use super::*;
use crate::protocol::livekit::{
    DataBlob, DataBlobKey, GetDataBlobRequest, StoreDataBlobRequest, data_blob_key::Key,
    request_response::Reason,
};

fn key(name: &str) -> DataBlobKey {
    let key = Key::Generic(name.to_owned());
    DataBlobKey { key: Some(key) }
}

/// `Ok`: the contents that came back, empty for what was stored; `Err`: why not.
fn ask(
    lab: &mut Lab,
    session: SessionId,
    message: signal_request::Message,
) -> Result<Vec<u8>, Reason> {
    lab.heard(session);
    lab.request(session, message);
    let answers = lab.heard(session);
    assert_eq!(answers.len(), 1, "{answers:?}");
    match &answers[0] {
        signal_response::Message::StoreDataBlobResponse(stored) => {
            assert_eq!(stored.request_id, 7);
            Ok(Vec::new())
        }
        signal_response::Message::GetDataBlobResponse(found) => {
            assert_eq!(found.request_id, 8);
            Ok(found.blob.clone().unwrap().contents)
        }
        signal_response::Message::RequestResponse(refusal) => Err(refusal.reason()),
        other => panic!("{other:?}"),
    }
}

fn store(lab: &mut Lab, session: SessionId, name: &str, len: usize) -> Result<Vec<u8>, Reason> {
    let request = StoreDataBlobRequest {
        request_id: 7,
        blob: Some(DataBlob {
            key: Some(key(name)),
            contents: vec![1; len],
        }),
    };
    let message = signal_request::Message::StoreDataBlobRequest(request);
    ask(lab, session, message)
}

fn get(lab: &mut Lab, session: SessionId, whose: &str, name: &str) -> Result<Vec<u8>, Reason> {
    let request = GetDataBlobRequest {
        request_id: 8,
        participant_identity: whose.to_owned(),
        key: Some(key(name)),
    };
    let message = signal_request::Message::GetDataBlobRequest(request);
    ask(lab, session, message)
}

#[test]
fn what_one_leaves_others_fetch() {
    let mut lab = Lab::with(|settings| settings.defaults.enable_participant_data_blob = true);
    let alice = lab.join("alice");
    let bob = lab.join("bob");
    assert_eq!(store(&mut lab, alice, "schema", 60_000), Ok(Vec::new()));
    assert_eq!(get(&mut lab, bob, "alice", "schema"), Ok(vec![1; 60_000]));
    assert_eq!(get(&mut lab, bob, "alice", "other"), Err(Reason::NotFound));
    assert_eq!(get(&mut lab, bob, "bob", "schema"), Err(Reason::NotFound));
    assert_eq!(get(&mut lab, bob, "carol", "schema"), Err(Reason::NotFound));
}

#[test]
fn blobs_have_bounds_and_keys() {
    let mut lab = Lab::with(|settings| settings.defaults.enable_participant_data_blob = true);
    let alice = lab.join("alice");
    let long = "k".repeat(257);
    assert_eq!(
        store(&mut lab, alice, &long, 1),
        Err(Reason::InvalidRequest)
    );
    assert_eq!(store(&mut lab, alice, "", 1), Err(Reason::InvalidRequest));
    assert_eq!(store(&mut lab, alice, "a", 0), Err(Reason::InvalidRequest));
    assert_eq!(
        store(&mut lab, alice, "a", 64_000),
        Err(Reason::LimitExceeded)
    );
    assert_eq!(store(&mut lab, alice, "a", 40_000), Ok(Vec::new()));
    assert_eq!(
        store(&mut lab, alice, "b", 24_000),
        Err(Reason::LimitExceeded)
    );
    assert_eq!(store(&mut lab, alice, "b", 23_998), Ok(Vec::new()));
}

#[test]
fn without_the_option_nothing_is_stored() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    assert_eq!(store(&mut lab, alice, "a", 1), Err(Reason::NotAllowed));
    assert_eq!(get(&mut lab, alice, "alice", "a"), Err(Reason::NotFound));
}
