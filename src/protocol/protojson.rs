//! Reading protobuf's JSON as Go's protojson does: what pbjson alone would refuse.
//!
//! `null` stands for a field that is not set, and `60.0` for the integer. Where protojson wants a value (the entries
//! of lists and maps), `null` stays a fault.

use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Reads a message. JSON may have names in either case and fields that nobody knows.
///
/// Needs no more memory than the text has bytes, beside the message itself; depth is bounded by serde_json.
pub(super) fn read<M: DeserializeOwned>(json: &[u8]) -> Result<M, serde_json::Error> {
    serde_json::from_slice(&plain(json))
}

/// The same text, where a member that is `null` has another name, one that no message knows, and where whole numbers
/// have no fraction. What was no JSON is none afterwards.
fn plain(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.windows(4).any(|four| four == b"null") && !json.windows(2).any(|two| two == b".0") {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len());
    // Where the last string begins and ends in `out`, as long as nothing but a colon and spaces have followed.
    let mut name: Option<(usize, usize)> = None;
    let mut is_member = false;
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'"' => {
                let length = string(rest);
                name = Some((out.len(), out.len() + length));
                is_member = false;
                length
            }
            b':' => {
                is_member = name.is_some();
                1
            }
            b' ' | b'\t' | b'\r' | b'\n' => 1,
            b'.' => {
                name = None;
                let zeros = rest
                    .iter()
                    .skip(1)
                    .take_while(|byte| **byte == b'0')
                    .count();
                let goes_on = rest.get(1 + zeros).is_some_and(|byte| {
                    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E')
                });
                if zeros > 0 && !goes_on && ends_in_integer(&out) {
                    rest = rest.get(1 + zeros..).unwrap_or_default();
                    continue;
                }
                1
            }
            _ => {
                if let Some((from, to)) = name
                    .take()
                    .filter(|_| is_member && rest.starts_with(b"null"))
                {
                    out.splice(from..to, *b"\"\"");
                }
                is_member = false;
                1
            }
        };
        let (done, left) = rest.split_at(length);
        out.extend_from_slice(done);
        rest = left;
    }
    Cow::Owned(out)
}

/// Whether a text ends in digits that are no fraction and no exponent.
fn ends_in_integer(text: &[u8]) -> bool {
    let mut number = text
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
    let ends_in_digit = text.last().is_some_and(u8::is_ascii_digit);
    ends_in_digit && !number.any(|byte| b".eE".contains(byte))
}

/// Bytes of the string that this text begins with, quotes included; all of it if it does not end.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = !escaped && *byte == b'"';
        escaped = !escaped && *byte == b'\\';
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::livekit::{CreateRoomRequest, UpdateParticipantRequest};
    use proptest::prelude::*;

    #[test]
    fn null_is_a_field_that_is_not_set_and_a_whole_number_may_have_a_fraction() {
        let json = r#"{"name":"n:null,\"","metadata" : null ,"agents":null,"egress":null,"emptyTimeout":60.0,
            "max_participants":null,"agents":[{"agentName":null,"metadata":"1.0"}],"tags":null,"new":[null,1.0]}"#;
        let request: CreateRoomRequest = read(json.as_bytes()).unwrap();
        let agent = crate::protocol::livekit::RoomAgentDispatch {
            metadata: "1.0".to_owned(),
            ..Default::default()
        };
        let expected = CreateRoomRequest {
            name: "n:null,\"".to_owned(),
            empty_timeout: 60,
            agents: vec![agent],
            ..Default::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn null_is_a_fault_where_protojson_wants_a_value() {
        for json in [
            r#"{"attributes":{"a":null}}"#,
            r#"{"permission":{"canPublishSources":[null]}}"#,
            r#"{"name":null,}"#,
            r#"{"name":null "metadata":"m"}"#,
            r#"{"name":nul}"#,
            r#"{"name"null}"#,
            "null.0",
            r#"{"new":9.0.0}"#,
            r#"{"new":9e1.0}"#,
        ] {
            assert!(
                read::<UpdateParticipantRequest>(json.as_bytes()).is_err(),
                "{json}"
            );
        }
        let deep = "{\"x\":".repeat(1000) + "null";
        assert!(read::<UpdateParticipantRequest>(deep.as_bytes()).is_err());
    }

    proptest! {
        /// What serde_json thinks of a text is the same before and after.
        #[test]
        fn no_text_becomes_json_or_ceases_to_be(text in r#"([{}\[\]:, "\\n19.0eE]|null|"a":|":null|\.0){0,24}"#) {
            let valid = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).is_ok();
            prop_assert_eq!(valid(text.as_bytes()), valid(&plain(text.as_bytes())), "{}", text);
        }
    }
}
