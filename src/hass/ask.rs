//! The one question to Home Assistant's Supervisor: `GET /addons/self/info`, for the address and port of ingress.
//!
//! Driven by [`super::open`]. Time and size of the answer are bounded, and the token is in nothing that is logged.

use super::is_one_address;
use crate::options::addon::Hass;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode, redirect};
use serde::Deserialize;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The answer holds README and options of the app; more than this it never has.
const MAX_ANSWER: usize = 1 << 20;

/// How Supervisor is asked.
#[derive(Debug)]
pub(super) struct Ask {
    client: Client,
    url: String,
    /// Marked as sensitive, so that it is not shown by `Debug`.
    token: HeaderValue,
}

/// Why there is no listener yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No connection, no answer in time, or one that breaks off.
    #[error("Home Assistant's Supervisor does not answer ({0})")]
    Silent(String),
    /// 401 and 403.
    #[error("Home Assistant's Supervisor does not know this app's token")]
    Token,
    /// Any other status but 200.
    #[error("Home Assistant's Supervisor answers with HTTP status {0}")]
    Status(u16),
    /// Not what its documentation says.
    #[error("Home Assistant's Supervisor says what cannot be understood ({0})")]
    Garbage(&'static str),
    /// The address cannot be listened on.
    #[error("{0} cannot be listened on ({1})")]
    Listen(SocketAddr, String),
    /// The system gives no client, or the token is no token.
    #[error("Home Assistant's Supervisor cannot be asked ({0})")]
    Client(String),
}

impl Fault {
    /// What a person does about one that stays.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Token | Self::Client(_) => "restart the app, which gives it a new token",
            Self::Listen(..) => "if it stays so, restart the app",
            Self::Silent(_) | Self::Status(_) | Self::Garbage(_) => {
                "if it stays so, look at Supervisor's log (Settings, System, Logs) and restart the app"
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: Info,
}

#[derive(Deserialize)]
struct Info {
    /// 172.30.32.1 for an app on the host's network.
    ip_address: Option<String>,
    /// Null for an app without ingress.
    ingress_port: Option<u16>,
}

impl Ask {
    /// Each answer may take `patience`, all in all.
    pub(super) fn new(hass: &Hass, patience: Duration) -> Result<Self, Fault> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", hass.token.reveal()))
            .map_err(|_| Fault::Client("the token is none".to_owned()))?;
        token.set_sensitive(true);
        let client = Client::builder()
            .user_agent(concat!("parlor/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            // Plain HTTP within the machine: the certificates that it trusts need not be read.
            .tls_certs_only([])
            .timeout(patience)
            .build()
            .map_err(|error| Fault::Client(root_cause(&error)))?;
        Ok(Self {
            client,
            url: format!("{}/addons/self/info", hass.url),
            token,
        })
    }

    /// Where ingress will reach us; `None`: the app has none.
    pub(super) async fn ingress(&self) -> Result<Option<SocketAddr>, Fault> {
        let response = self
            .client
            .get(&self.url)
            .header(AUTHORIZATION, self.token.clone())
            .send()
            .await
            .map_err(|error| Fault::Silent(root_cause(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Fault::Token),
            status => return Err(Fault::Status(status.as_u16())),
        }
        understand(&body(response).await?)
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| Fault::Silent(root_cause(&error)))?
    {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(Fault::Garbage("it does not end"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn understand(body: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    let Envelope { data } =
        serde_json::from_slice(body).map_err(|_| Fault::Garbage("no JSON of the kind"))?;
    let Some(port) = data.ingress_port else {
        return Ok(None);
    };
    let ip: IpAddr = data
        .ip_address
        .and_then(|text| text.parse().ok())
        .ok_or(Fault::Garbage("no address for ingress"))?;
    Some(SocketAddr::new(ip, port))
        .filter(|address| is_one_address(*address))
        .map(Some)
        .ok_or(Fault::Garbage("no address and port to listen on"))
}

/// What lies under it all: "connection refused", not "error sending request".
fn root_cause(mut error: &dyn Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_where_ingress_comes() {
        let info =
            |text: &str| understand(format!("{{\"result\":\"ok\",\"data\":{text}}}").as_bytes());
        assert_eq!(
            info(r#"{"slug":"x","ip_address":"172.30.32.1","ingress_port":62137,"options":{}}"#),
            Ok(Some("172.30.32.1:62137".parse().unwrap()))
        );
        for none in [r#"{"ip_address":"172.30.32.1","ingress_port":null}"#, "{}"] {
            assert_eq!(info(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn an_address_that_is_everywhere_or_nowhere_is_not_taken() {
        for (address, port) in [
            ("\"0.0.0.0\"", "8099"),
            ("\"::\"", "8099"),
            ("\"224.0.0.1\"", "8099"),
            ("\"172.30.32.1\"", "0"),
            ("\"172.30.32.1\"", "70000"),
            ("\"172.30.32.1\"", "\"8099\""),
            ("\"supervisor\"", "8099"),
            ("\"\"", "8099"),
            ("null", "8099"),
            ("7", "8099"),
        ] {
            let text = format!("{{\"data\":{{\"ip_address\":{address},\"ingress_port\":{port}}}}}");
            let fault = understand(text.as_bytes());
            assert!(matches!(fault, Err(Fault::Garbage(_))), "{text}: {fault:?}");
        }
        for text in ["", "[]", "null", "{}", "\u{0}", "<html>", "{\"data\":[]}"] {
            let fault = understand(text.as_bytes());
            assert!(matches!(fault, Err(Fault::Garbage(_))), "{text}: {fault:?}");
        }
    }

    #[test]
    fn a_token_that_is_none_is_not_shown() {
        let hass = Hass {
            url: "http://127.0.0.1".to_owned(),
            token: crate::secret::Secret::new("hu\nsh".to_owned()),
        };
        let fault = Ask::new(&hass, Duration::from_secs(1)).unwrap_err();
        assert!(!fault.to_string().contains("sh\n") && !format!("{fault:?}").contains("hu"));
        let good = Hass {
            token: crate::secret::Secret::new("hush".to_owned()),
            ..hass
        };
        let ask = Ask::new(&good, Duration::from_secs(1)).unwrap();
        assert!(!format!("{ask:?}").contains("hush"));
    }
}
