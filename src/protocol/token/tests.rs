use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than 32 characters, as it should be";

fn keys() -> Keys {
    Keys(vec![
        ("first".to_owned(), Secret::new("another".repeat(6))),
        ("devkey".to_owned(), Secret::new(SECRET.to_owned())),
    ])
}

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn token(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn fault(token: &str) -> String {
    verify(NOW, token, &keys()).unwrap_err().to_string()
}

#[test]
fn a_token_of_an_sdk_is_taken_with_and_without_typ() {
    let claims = json!({
        "iss": "devkey", "sub": "alice", "exp": NOW + 600, "nbf": NOW, "name": "Alice", "unknown": [1],
        "metadata": null, "attributes": {"seat": "3"},
        "video": {"roomJoin": true, "room": "hall", "canPublish": false, "canSubscribe": null,
            "canPublishSources": ["camera"]},
    });
    for header in [
        json!({"alg": "HS256", "typ": "JWT"}),
        json!({"alg": "HS256"}),
        json!({"typ": "JWT", "alg": "HS256", "kid": "1"}),
    ] {
        let (read, api_key) = verify(NOW, &signed(&header, &claims, SECRET), &keys()).unwrap();
        assert_eq!(api_key, "devkey");
        assert_eq!(
            (&*read.sub, &*read.name, &*read.metadata),
            ("alice", "Alice", "")
        );
        assert_eq!(read.attributes["seat"], "3");
        let video = read.video.unwrap();
        assert!(video.room_join);
        assert_eq!(&*video.room, "hall");
        assert_eq!(
            (video.can_publish, video.can_subscribe),
            (Some(false), None)
        );
        assert_eq!(video.can_publish_sources, ["camera"]);
    }
}

#[test]
fn jti_stands_in_for_a_missing_sub() {
    let text = token(&json!({"iss": "devkey", "jti": "bob", "exp": NOW + 1}));
    assert_eq!(verify(NOW, &text, &keys()).unwrap().0.sub, "bob");
    let text = token(&json!({"iss": "devkey", "jti": "bob", "sub": "alice", "exp": NOW + 1}));
    assert_eq!(verify(NOW, &text, &keys()).unwrap().0.sub, "alice");
}

#[test]
fn times_have_a_minute_of_grace_and_may_have_fractions() {
    let at = |exp: Value, nbf: Value| {
        let text = token(&json!({"iss": "devkey", "exp": exp, "nbf": nbf}));
        verify(NOW, &text, &keys()).map(|_| ())
    };
    assert_eq!(at(json!(NOW - 59), json!(NOW + 60)), Ok(()));
    assert_eq!(at(json!(NOW as f64 + 0.5), json!(null)), Ok(()));
    assert_eq!(at(json!(NOW - 60), json!(0)), Err(TokenFault::Expired));
    assert_eq!(at(json!(-5), json!(0)), Err(TokenFault::ExpiryMissing));
    assert_eq!(
        at(json!(NOW), json!(NOW + 61)),
        Err(TokenFault::NotYetValid)
    );
    assert_eq!(at(json!(1e300), json!(0)), Ok(()));
    assert_eq!(at(json!("soon"), json!(0)), Err(TokenFault::Malformed));
}

#[test]
fn refusals_have_the_texts_of_the_reference() {
    let good = json!({"iss": "devkey", "sub": "a", "exp": NOW + 600});
    let expired = json!({"iss": "devkey", "sub": "a", "exp": NOW - 600});
    let hs256 = json!({"alg": "HS256"});
    let tampered = {
        let text = token(&good);
        let (message, signature) = text.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let other = json!({"iss": "devkey", "sub": "root", "exp": NOW + 600});
        format!(
            "{header}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(other.to_string())
        )
    };
    let unsigned = |alg: &str| {
        let text = signed(&json!({"alg": alg}), &good, SECRET);
        text.rsplit_once('.').unwrap().0.to_owned() + "."
    };
    let signature = "invalid authorization token: token signature is invalid";
    for (text, expected) in [
        ("garbage".to_owned(), "invalid authorization token".to_owned()),
        (String::new(), "invalid authorization token".to_owned()),
        ("..".to_owned(), "invalid authorization token".to_owned()),
        ("x".repeat(MAX_TOKEN + 1), "invalid authorization token".to_owned()),
        (
            signed(&hs256, &json!({"iss": "nobody", "exp": NOW + 1}), SECRET),
            "invalid API key".to_owned(),
        ),
        (
            signed(&hs256, &json!({"exp": NOW + 1}), SECRET),
            "invalid API key".to_owned(),
        ),
        (
            signed(&hs256, &good, "wrong"),
            format!("{signature}: signature is invalid"),
        ),
        (tampered, format!("{signature}: signature is invalid")),
        (
            unsigned("HS256"),
            format!("{signature}: signature is invalid"),
        ),
        (
            unsigned("none"),
            format!("{signature}: signing method none is invalid"),
        ),
        (
            signed(&json!({"alg": "HS512"}), &good, SECRET),
            format!("{signature}: signing method HS512 is invalid"),
        ),
        (
            unsigned("RS256"),
            format!("{signature}: signing method RS256 is invalid"),
        ),
        (
            signed(&json!({"alg": "<b>"}), &good, SECRET),
            "invalid authorization token".to_owned(),
        ),
        (
            signed(&hs256, &expired, SECRET),
            "invalid authorization token: token has invalid claims: token is expired".to_owned(),
        ),
        (
            signed(&hs256, &json!({"iss": "devkey"}), SECRET),
            "invalid authorization token: token has invalid claims: token is missing required claim: exp claim is required".to_owned(),
        ),
    ] {
        assert_eq!(fault(&text), expected, "{text:.200}");
    }
}

#[test]
fn an_expired_token_with_a_wrong_signature_says_signature() {
    let text = signed(
        &json!({"alg": "HS256"}),
        &json!({"iss": "devkey", "exp": 5}),
        "wrong",
    );
    assert_eq!(
        verify(NOW, &text, &keys()).unwrap_err(),
        TokenFault::Signature
    );
}

#[test]
fn what_is_signed_here_is_verified_here() {
    let claims = Claims::for_join("devkey", "hall", "alice", NOW, Duration::from_secs(600));
    let text = sign(&claims, &Secret::new(SECRET.to_owned()));
    let (read, _) = verify(NOW + 599, &text, &keys()).unwrap();
    assert_eq!(read.sub, "alice");
    assert_eq!(read.exp, NOW + 600);
    assert!(read.video.unwrap().room_join);
    let written: Value = jsonwebtoken::dangerous::insecure_decode_claims(&text).unwrap();
    assert_eq!(
        written,
        json!({"iss": "devkey", "sub": "alice", "nbf": NOW, "exp": NOW + 600,
            "video": {"roomJoin": true, "room": "hall"}})
    );
}

proptest! {
    #[test]
    fn no_text_makes_verify_panic(text in "[A-Za-z0-9_.=-]{0,200}") {
        prop_assert!(verify(NOW, &text, &keys()).is_err());
    }
}
