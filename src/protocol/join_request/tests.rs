use super::*;
use crate::protocol::livekit::{
    AddTrackRequest, ConnectionSettings, SessionDescription, SyncState,
};
use crate::protocol::token::VideoGrant;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use std::io::Write;

const CALLER: Caller<'static> = Caller {
    user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    address: "192.0.2.7",
};

fn query(parameters: &[(&str, &str)]) -> Query {
    let owned = parameters
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Query::new(owned.collect())
}

fn claims() -> Claims {
    Claims {
        sub: "alice".to_owned(),
        video: Some(VideoGrant::default()),
        ..Claims::default()
    }
}

fn join(parameters: &[(&str, &str)]) -> Result<Join, JoinFault> {
    read(
        &query(parameters),
        false,
        claims(),
        "key".to_owned(),
        CALLER,
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn wrapped(compression: i32, join_request: Vec<u8>) -> Vec<u8> {
    let wrapped = WrappedJoinRequest {
        compression,
        join_request,
    };
    wrapped.encode_to_vec()
}

fn full_request() -> JoinRequest {
    JoinRequest {
        client_info: Some(ClientInfo {
            sdk: Sdk::Python.into(),
            protocol: 18,
            client_protocol: 2,
            capabilities: vec![1, 2],
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: true,
            subscriber_allow_pause: Some(true),
            disable_ice_lite: true,
            auto_subscribe_data_track: Some(true),
        }),
        metadata: "m".to_owned(),
        participant_attributes: HashMap::from([("a".to_owned(), "b".to_owned())]),
        add_track_requests: vec![AddTrackRequest {
            cid: "c".to_owned(),
            ..AddTrackRequest::default()
        }],
        publisher_offer: Some(SessionDescription {
            r#type: "offer".to_owned(),
            sdp: "v=0 ÿ?>".repeat(500),
            id: 1,
            ..SessionDescription::default()
        }),
        reconnect: true,
        reconnect_reason: ReconnectReason::RrPublisherFailed.into(),
        participant_sid: "PA_x".to_owned(),
        sync_state: Some(SyncState::default()),
    }
}

#[test]
fn a_wrapped_request_is_read_from_every_base64_with_and_without_gzip() {
    let request = full_request();
    for bytes in [
        wrapped(0, request.encode_to_vec()),
        wrapped(1, gzip(&request.encode_to_vec())),
    ] {
        for engine in [URL_SAFE, URL_SAFE_NO_PAD, STANDARD, STANDARD_NO_PAD] {
            let text = engine.encode(&bytes);
            assert_eq!(decode(&text).as_ref(), Ok(&request));
            assert_eq!(decode(&text.replace('+', " ")).as_ref(), Ok(&request));
        }
    }
}

#[test]
fn a_wrapped_request_becomes_a_join_with_one_connection() {
    let text = URL_SAFE.encode(wrapped(1, gzip(&full_request().encode_to_vec())));
    let join = join(&[("join_request", &text), ("auto_subscribe", "0")]).unwrap();
    assert!(join.single_pc && join.auto_subscribe && join.auto_subscribe_data_track);
    assert!(join.adaptive_stream && join.disable_ice_lite);
    assert_eq!(join.subscriber_allow_pause, Some(true));
    assert_eq!(join.protocol, 17, "18 is treated as 17");
    assert_eq!((join.client.protocol, join.client.client_protocol), (18, 2));
    assert_eq!(join.client.capabilities, [1, 2]);
    assert_eq!(join.client.browser, "", "Python does not run in browsers");
    assert_eq!(join.client.address, "192.0.2.7");
    assert_eq!((&*join.metadata, &*join.attributes["a"]), ("m", "b"));
    assert_eq!(join.add_tracks[0].cid, "c");
    assert_eq!(join.publisher_offer.unwrap().id, 1);
    let resume = join.resume.unwrap();
    assert_eq!(resume.participant_sid, "PA_x");
    assert_eq!(resume.reason, ReconnectReason::RrPublisherFailed);
    assert!(resume.sync_state.is_some());
    assert_eq!(join.api_key, "key");
}

#[test]
fn what_a_wrapped_request_leaves_out_is_false() {
    let text = URL_SAFE.encode(wrapped(0, Vec::new()));
    // Field 2, zero bytes: the wrapping of an empty request is itself empty, and no request at all.
    assert_eq!(text, "");
    let text = URL_SAFE.encode(wrapped(1, gzip(&[])));
    let join = join(&[("join_request", &text)]).unwrap();
    assert!(join.single_pc);
    assert!(!join.auto_subscribe && !join.auto_subscribe_data_track && !join.adaptive_stream);
    assert_eq!(join.subscriber_allow_pause, Some(false));
    assert!(join.resume.is_none());
    assert_eq!(
        (&*join.client.browser, &*join.client.os),
        ("Mobile Safari", "iOS")
    );
    assert_eq!(
        (&*join.client.os_version, &*join.client.device_model),
        ("17.5", "iPhone")
    );
}

#[test]
fn what_a_query_leaves_out_is_as_it_always_was() {
    let join = join(&[]).unwrap();
    assert!(join.auto_subscribe);
    assert!(!join.single_pc && !join.auto_subscribe_data_track && !join.adaptive_stream);
    assert_eq!(join.subscriber_allow_pause, None);
    assert_eq!((join.protocol, join.client.sdk()), (0, Sdk::Unknown));
    assert!(join.resume.is_none() && join.publish.is_none() && join.attributes.is_empty());
    assert_eq!(join.claims.sub, "alice");
}

#[test]
fn a_query_is_read_whole() {
    let join = join(&[
        ("auto_subscribe", "0"),
        ("adaptive_stream", "1"),
        ("auto_subscribe_data_track", "true"),
        ("disable_ice_lite", "true"),
        ("subscriber_allow_pause", "0"),
        ("sdk", "js"),
        ("sdk", "go"),
        ("version", "2.23.0"),
        ("protocol", "16"),
        ("client_protocol", "2"),
        ("browser", "Own"),
        ("network", "wifi"),
        ("capabilities", "CAP_PACKET_TRAILER,CAP_NEWER"),
        ("attributes", "eyJrIjoidiJ9"),
        ("reconnect", "1"),
        ("sid", "PA_y"),
        ("reconnect_reason", "99"),
    ])
    .unwrap();
    assert!(!join.auto_subscribe && join.adaptive_stream && join.disable_ice_lite);
    assert!(join.auto_subscribe_data_track);
    assert_eq!(join.subscriber_allow_pause, Some(false));
    assert_eq!(join.protocol, 16);
    assert_eq!(join.client.sdk(), Sdk::Js);
    assert_eq!(
        (&*join.client.version, &*join.client.network),
        ("2.23.0", "wifi")
    );
    assert_eq!(
        (&*join.client.browser, &*join.client.browser_version),
        ("Own", "")
    );
    assert_eq!(
        join.client.capabilities,
        [i32::from(Capability::CapPacketTrailer)]
    );
    assert_eq!(join.attributes["k"], "v");
    let resume = join.resume.unwrap();
    assert_eq!(
        (&*resume.participant_sid, resume.reason),
        ("PA_y", ReconnectReason::RrUnknown)
    );
}

#[test]
fn a_publish_only_clone_says_its_suffix() {
    assert_eq!(
        join(&[("publish", "screen")]).unwrap().publish.as_deref(),
        Some("screen")
    );
    assert_eq!(join(&[("publish", "")]).unwrap().publish, None);
}

#[test]
fn odd_protocol_numbers_are_tamed() {
    for (text, expected) in [
        ("-1", 0),
        ("99", 17),
        ("x", 0),
        ("99999999999", 0),
        ("9", 9),
    ] {
        assert_eq!(
            join(&[("protocol", text)]).unwrap().protocol,
            expected,
            "{text}"
        );
    }
}

#[test]
fn faults_are_named() {
    let missing = read(&query(&[]), true, claims(), String::new(), CALLER);
    assert_eq!(missing.unwrap_err().to_string(), "join_request is required");
    let bomb = gzip(&vec![0; 2 << 20]);
    assert!(bomb.len() < 10_000);
    let mut cut = gzip(&full_request().encode_to_vec());
    cut.truncate(40);
    for (text, expected) in [
        ("§".to_owned(), JoinFault::Base64),
        (URL_SAFE.encode([0xff; 5]), JoinFault::WrappingUnreadable),
        (
            URL_SAFE.encode(wrapped(7, vec![])),
            JoinFault::WrappingUnreadable,
        ),
        (
            URL_SAFE.encode(wrapped(0, vec![0xff])),
            JoinFault::Unreadable,
        ),
        (URL_SAFE.encode(wrapped(1, vec![0xff])), JoinFault::Gzip),
        (URL_SAFE.encode(wrapped(1, cut)), JoinFault::Gzip),
        (URL_SAFE.encode(wrapped(1, bomb)), JoinFault::TooLarge),
        (
            URL_SAFE.encode(wrapped(0, vec![0; 2 << 20])),
            JoinFault::TooLarge,
        ),
    ] {
        assert_eq!(decode(&text).unwrap_err(), expected);
    }
}

#[test]
fn attributes_that_cannot_be_read_are_a_fault_to_whoever_asks_and_none_to_whoever_joins() {
    for text in ["!", "W10", "eyJrIjoxfQ"] {
        let parameters = [("attributes", text)];
        let asked = check_attributes(&query(&parameters));
        assert_eq!(asked, Err(JoinFault::Attributes), "{text}");
        assert!(join(&parameters).unwrap().attributes.is_empty(), "{text}");
    }
    let good = query(&[("attributes", "eyJrIjoidiJ9")]);
    assert_eq!(check_attributes(&good), Ok(()));
}

proptest! {
    #[test]
    fn no_join_request_makes_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), compression in 0..3) {
        drop(decode(&URL_SAFE.encode(wrapped(compression, bytes.clone()))));
        drop(decode(&URL_SAFE.encode(bytes)));
    }
}
