//! What happens to every request before its route: CORS, a tidy path, the size limit, the access token.
//!
//! The order is livekit 1.13.5's (`pkg/service/server.go`): a bad token is 401 on every path, and browsers can read it
//! because the CORS headers are on every answer. A missing token is no fault here; each route decides.

use crate::http::{App, MAX_BODY};
use crate::protocol::join_request::Query;
use crate::protocol::token::{self, Claims};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, VARY,
};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Where guides for proxies put LiveKit and lk-jwt-service. A proxy that does not strip its prefix works all the same.
const PREFIXES: [&str; 4] = [
    "/livekit/sfu",
    "/livekit/jwt",
    "/livekit-server",
    "/livekit-jwt-service",
];

/// Bytes of a form; the values are those of a query, and a URL has hardly more.
const MAX_FORM: usize = 64_000;

/// A verified token, in the extensions of a request that has one.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What the token says.
    pub claims: Claims,
    /// Who signed it.
    pub api_key: String,
}

/// The middleware.
pub(super) async fn front(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    if request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return preflight(request.headers(), origin);
    }
    tidy(request.uri_mut());
    let is_validate = matches!(request.uri().path(), "/rtc/validate" | "/rtc/v1/validate");
    let method = request.method().clone();
    let path = request.uri().path().to_owned();

    let admitted = match form(is_validate, &mut request).await {
        Ok(form) => admit(&app, &mut request, form),
        Err(refusal) => Err(refusal),
    };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err((status, text)) => (status, text).into_response(),
    };
    // The path alone: the query holds the token.
    tracing::debug!(%method, path, status = response.status().as_u16(), "request");

    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if is_validate {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }
    response
}

/// Answers a browser's question whether it may send a request: any origin may send anything.
fn preflight(headers: &HeaderMap, origin: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        VARY,
        HeaderValue::from_static(
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    );
    if let Some(origin) = origin {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        for (asked, granted) in [
            (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
            (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        ] {
            if let Some(value) = headers.get(asked) {
                answer.insert(granted, value.clone());
            }
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    response
}

/// For a body, from the head of its request on.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Refusal = (StatusCode, Cow<'static, str>);

const TOO_LARGE: Refusal = (
    StatusCode::PAYLOAD_TOO_LARGE,
    Cow::Borrowed("request body too large"),
);

const TOO_SLOW: Refusal = (
    StatusCode::REQUEST_TIMEOUT,
    Cow::Borrowed("request body took too long"),
);

/// The values of a form that is posted to `validate`; livekit 1.13.5 takes them as a query's (`FormValue`).
async fn form(is_validate: bool, request: &mut Request) -> Result<Values, Refusal> {
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.split(';').next())
        .is_some_and(|mime| mime.trim() == "application/x-www-form-urlencoded");
    if !(is_validate && is_form && request.method() == Method::POST) {
        return Ok(Values::new());
    }
    let body = read(std::mem::take(request.body_mut()), MAX_FORM).await?;
    let as_query = [b"/?".as_slice(), &body].concat();
    Ok(Uri::try_from(as_query).map_or_else(|_| Values::new(), |uri| values(&uri)))
}

/// Reads a body to its end. One that ends early reaches nobody who could read an answer.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max)).await {
        Ok(body) => body.map_err(|_| TOO_LARGE),
        Err(_) => Err(TOO_SLOW),
    }
}

type Values = Vec<(String, String)>;

/// The parameters of a query. One that cannot be decoded is taken for none.
fn values(uri: &Uri) -> Values {
    axum::extract::Query::try_from_uri(uri).map_or_else(|_| Values::new(), |query| query.0)
}

/// Checks size and token. The token's claims and the values of form and query go into the request's extensions.
fn admit(app: &App, request: &mut Request, form: Values) -> Result<(), Refusal> {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(TOO_LARGE);
    }

    let mut sent = form;
    sent.extend(values(request.uri()));
    let query = Query::new(sent);
    let granted = match bearer(request.headers(), &query)? {
        "" => None,
        token => {
            let (claims, api_key) =
                token::verify(app.clock.unix_seconds(), token, &app.keys).map_err(unauthorized)?;
            Some(Granted { claims, api_key })
        }
    };
    if let Some(granted) = granted {
        request.extensions_mut().insert(granted);
    }
    request.extensions_mut().insert(query);
    Ok(())
}

/// The token as it was sent: the header wins over the query.
fn bearer<'a>(headers: &'a HeaderMap, query: &'a Query) -> Result<&'a str, Refusal> {
    let header = headers.get(AUTHORIZATION).filter(|value| !value.is_empty());
    let Some(header) = header else {
        return Ok(query.get("access_token"));
    };
    header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "))
        .ok_or_else(|| {
            unauthorized("invalid authorization header. Must start with Bearer ".to_owned())
        })
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unauthorized(text: impl ToString) -> Refusal {
    (StatusCode::UNAUTHORIZED, Cow::Owned(text.to_string()))
}

/// Makes one slash of several and takes a proxy's prefix off.
fn tidy(uri: &mut Uri) {
    let Some(path) = tidy_path(uri.path()) else {
        return;
    };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // Parts of a valid path are a valid path.
    if let Ok(tidied) = PathAndQuery::try_from(text) {
        *uri = Uri::from(tidied);
    }
}

/// `None`: the path is tidy already.
fn tidy_path(path: &str) -> Option<String> {
    let mut tidied = String::new();
    if path.contains("//") {
        for c in path.chars() {
            if c != '/' || !tidied.ends_with('/') {
                tidied.push(c);
            }
        }
    }
    let single = if tidied.is_empty() { path } else { &tidied };
    let rest = PREFIXES.iter().find_map(|prefix| {
        let rest = single.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    });
    match rest {
        Some("") => Some("/".to_owned()),
        Some(rest) => Some(rest.to_owned()),
        None => Some(tidied).filter(|tidied| !tidied.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_doubled_slashes_are_taken_off() {
        for (path, expected) in [
            ("/", None),
            ("/rtc/v1", None),
            ("/livekit", None),
            ("/livekit-servers/rtc", None),
            ("//rtc", Some("/rtc")),
            ("//", Some("/")),
            ("///rtc////v1//", Some("/rtc/v1/")),
            ("/livekit/sfu", Some("/")),
            ("/livekit/sfu/", Some("/")),
            ("/livekit/sfu/rtc/v1/validate", Some("/rtc/v1/validate")),
            ("/livekit/sfu//rtc", Some("/rtc")),
            ("//livekit/jwt/sfu/get", Some("/sfu/get")),
            ("/livekit-server/twirp/x", Some("/twirp/x")),
            ("/livekit-jwt-service/get_token", Some("/get_token")),
        ] {
            assert_eq!(tidy_path(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_query_stays_as_it_was() {
        let mut uri: Uri = "//rtc?access_token=a//b&x=%2F".parse().unwrap();
        tidy(&mut uri);
        assert_eq!(uri.to_string(), "/rtc?access_token=a//b&x=%2F");
    }
}
