//! The API key and its secret: typed, kept from an earlier start, or new.

use super::flat::Flat;
use crate::config::{Keys, Login};
use crate::options::addon::Addon;
use crate::secret::Secret;

/// Characters of a secret, as LiveKit asks for (and only logs).
const MIN_SECRET: usize = 32;

const LEAVE_BOTH: &str = "leave api_key and api_secret empty, and a pair is made for you";

/// Secrets that stand in the earlier add-on's documentation, long enough to be typed and known to everybody.
const KNOWN: &[&str] = &[
    "your-secure-secret-32-characters-long",
    "abcd1234567890abcd1234567890abcd",
];

pub(super) fn keys(flat: &mut Flat<'_>, addon: &Addon) -> (Keys, Login) {
    let key = flat.text("api_key");
    let secret = flat.text("api_secret");
    let pair =
        |key: &str, secret: &str| Keys(vec![(key.to_owned(), Secret::new(secret.to_owned()))]);
    match (key, secret) {
        (Some(key), Some(secret)) => {
            check_key(flat, key);
            check_secret(flat, secret);
            (pair(key, secret), Login::Typed)
        }
        (Some(key), None) => {
            check_key(flat, key);
            if is_unset(addon, "api_secret") {
                flat.problem(
                    "api_secret",
                    "there is an api_key and no secret for it",
                    format!("type a secret of {MIN_SECRET} characters or more, or {LEAVE_BOTH}"),
                );
            }
            (Keys::default(), Login::Typed)
        }
        (None, Some(secret)) => {
            check_secret(flat, secret);
            if is_unset(addon, "api_key") {
                flat.problem(
                    "api_key",
                    "there is an api_secret and no key for it",
                    format!("type a name for it, such as parlor, or {LEAVE_BOTH}"),
                );
            }
            (Keys::default(), Login::Typed)
        }
        (None, None) => match &addon.kept {
            Ok(Some((key, secret))) => (Keys(vec![(key.clone(), secret.clone())]), Login::Kept),
            Ok(None) => {
                let (key, secret) = addon.fresh.clone();
                (Keys(vec![(key, secret)]), Login::New)
            }
            Err(reason) => {
                let path = addon.data.join(Addon::KEPT).display().to_string();
                flat.problem(
                    "api_key",
                    format!("the key that was made at the first start stands in {path}, and {reason}"),
                    "type the api_key and api_secret that your clients use, or restore a backup of this app",
                );
                (Keys::default(), Login::Kept)
            }
        },
    }
}

/// Not there at all: what has the wrong type was told already.
fn is_unset(addon: &Addon, name: &str) -> bool {
    match addon.map.get(name) {
        None | Some(serde_json::Value::Null) => true,
        Some(value) => value.as_str().is_some_and(|text| text.trim().is_empty()),
    }
}

fn check_key(flat: &mut Flat<'_>, key: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // The rest stays unsaid: what does not look like a key may be the secret, typed into the wrong field.
    if let Some(odd) = key.chars().find(|c| !is_plain(*c)) {
        flat.problem(
            "api_key",
            format!("{odd:?} is in it, and only letters, digits, - and _ may be"),
            format!("type a name such as parlor, or {LEAVE_BOTH}"),
        );
    }
}

fn check_secret(flat: &mut Flat<'_>, secret: &str) {
    let length = secret.chars().count();
    if length < MIN_SECRET {
        flat.problem(
            "api_secret",
            format!("the secret has {length} characters, fewer than {MIN_SECRET}"),
            format!("type what `openssl rand -hex 32` prints, or {LEAVE_BOTH}"),
        );
    } else if KNOWN.contains(&secret) {
        flat.warning(
            "api_secret",
            "this secret stands in a public documentation, so that anybody can join your calls; type another one, or leave api_key and api_secret empty",
        );
    }
}
