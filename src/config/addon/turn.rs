//! TURN servers of others that clients are told of, and how they log in there.

use super::flat::Flat;
use super::url;
use crate::config::network::TURN_TTL;
use crate::plan::{IceLogin, IceServer};
use crate::secret::Secret;

pub(super) fn servers(flat: &mut Flat<'_>) -> Vec<IceServer> {
    let is_on = flat.boolean("turn_enabled", false);
    let texts = flat.list("turn_servers");
    let count = texts.len();
    let mut urls = Vec::new();
    for (place, text) in texts {
        match url::ice(text) {
            Ok(url) if urls.contains(&url) => {}
            Ok(url) => urls.push(url),
            Err((fault, remedy)) => flat.problem(&place, fault, remedy),
        }
    }
    let login = login(flat, is_on);
    if !is_on {
        if count > 0 {
            flat.warning(
                "turn_servers",
                "turn_enabled is off, so clients are not told of them",
            );
        }
        return Vec::new();
    }
    if count == 0 {
        flat.warning(
            "turn_enabled",
            "there is no server to tell clients of; type one under turn_servers, such as turn:turn.example.org:3478, or turn this off",
        );
    }
    let (stun, turn): (Vec<_>, Vec<_>) = urls.into_iter().partition(|url| url.starts_with("stun"));
    let mut servers = Vec::new();
    match login {
        _ if turn.is_empty() => {}
        Some(login) => servers.push(IceServer { urls: turn, login }),
        None => flat.warning(
            "turn_enabled",
            "browsers refuse a TURN server without a login, so clients are not told of it; type turn_static_auth_secret, \
             or turn_username and turn_password, or turn this off",
        ),
    }
    if !stun.is_empty() {
        servers.push(IceServer {
            urls: stun,
            login: IceLogin::None,
        });
    }
    servers
}

/// The static secret wins over the pair: what it makes is of no use to others for long.
fn login(flat: &mut Flat<'_>, is_on: bool) -> Option<IceLogin> {
    let secret = flat.text("turn_static_auth_secret");
    let username = flat.text("turn_username");
    let password = flat.text("turn_password");
    if let Some(secret) = secret {
        if is_on && (username.is_some() || password.is_some()) {
            flat.warning(
                "turn_username",
                "turn_static_auth_secret makes a login for each client, so this one is left out",
            );
        }
        return Some(IceLogin::Rest {
            secret: Secret::new(secret.to_owned()),
            ttl: TURN_TTL,
        });
    }
    let (name, other, fault) = match (username, password) {
        (Some(username), Some(password)) => {
            return Some(IceLogin::Fixed {
                username: username.to_owned(),
                credential: Secret::new(password.to_owned()),
            });
        }
        (Some(_), None) => (
            "turn_password",
            "turn_username",
            "there is a turn_username and no password",
        ),
        (None, Some(_)) => (
            "turn_username",
            "turn_password",
            "there is a turn_password and no user",
        ),
        (None, None) => return None,
    };
    if is_on {
        flat.problem(
            name,
            fault,
            format!("type {name} too, or leave {other} empty and type turn_static_auth_secret"),
        );
    }
    None
}
