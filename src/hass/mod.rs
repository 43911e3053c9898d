//! Home Assistant: its Supervisor is asked where ingress will reach us, and a status page is served there.
//!
//! Driven by [`crate::supervisor`], which calls [`start`] once; a task asks until it has an answer and a listener, and
//! calls never wait for it. Followed is Supervisor 2026.08 (`supervisor/api/{apps,ingress}.py`): `ingress_port` may be
//! another one at each start, so nothing of the answer is kept. The page shows the API secret, so it has a listener of
//! its own that Supervisor alone can use; it is never on the port that clients use.

mod ask;
mod page;
mod status;

pub use status::Sources;

use crate::config;
use crate::http::{self, Bound, StartError};
use crate::options::addon::Hass;
use crate::random::Random;
use crate::task::Tasks;
use ask::{Ask, Fault};
use page::Page;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Supervisor's address on the bridge of Home Assistant's apps; ingress comes from nowhere else.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Failures in a row before a person is told: Supervisor is often slower to start than we are.
const PATIENT: u32 = 4;

/// How long to wait.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// For one answer, from the name's lookup to its last byte.
    answer: Duration,
    /// After the first failure; twice that after the next one.
    first: Duration,
    /// No longer than this.
    longest: Duration,
}

const PACE: Pace = Pace {
    answer: Duration::from_secs(10),
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// Serves the status page for ingress, as soon as Supervisor says where; until then asks, ever more rarely.
pub fn start(hass: &Hass, sources: Sources, tasks: &Tasks) {
    let ask = match Ask::new(hass, PACE.answer) {
        Ok(ask) => ask,
        Err(fault) => {
            tracing::warn!(%fault, "no status page in Home Assistant");
            return;
        }
    };
    let page = Arc::new(Page::new(sources, PEER));
    let own = tasks.clone();
    let mut random = Random::system();
    tasks.spawn("ingress", async move {
        tokio::select! {
            _ = open(&ask, &page, PACE, &mut random, &own) => {}
            () = own.cancelled() => {}
        }
    });
}

/// Asks and binds until both have worked. `None`: the app has no ingress.
async fn open(
    ask: &Ask,
    page: &Arc<Page>,
    pace: Pace,
    random: &mut Random,
    tasks: &Tasks,
) -> Option<Bound> {
    let mut pause = pace.first;
    let mut failures = 0_u32;
    loop {
        let fault = match attempt(ask, page, tasks).await {
            Ok(bound) => {
                match &bound {
                    Some(bound) => {
                        tracing::info!(
                            "status page: \"Open web UI\" on the app's page in Home Assistant (ingress on {})",
                            bound
                                .addresses
                                .first()
                                .map(ToString::to_string)
                                .unwrap_or_default()
                        );
                    }
                    None => tracing::debug!("the app has no ingress"),
                }
                return bound;
            }
            Err(fault) => fault,
        };
        failures = failures.saturating_add(1);
        if failures == PATIENT {
            tracing::warn!(
                "no status page in Home Assistant yet: {fault}. Calls work, and it is tried again; {}",
                fault.remedy()
            );
        } else {
            tracing::debug!(%fault, retry = ?pause, "ingress");
        }
        tokio::time::sleep(pause + jitter(pause, random)).await;
        pause = (pause * 2).min(pace.longest);
    }
}

/// Up to half of a pause, in steps of a millisecond: after a restart of the host, many apps ask at once.
fn jitter(pause: Duration, random: &mut Random) -> Duration {
    let most = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
    Duration::from_millis(random.u64() % most.saturating_add(1))
}

async fn attempt(ask: &Ask, page: &Arc<Page>, tasks: &Tasks) -> Result<Option<Bound>, Fault> {
    let Some(address) = ask.ingress().await? else {
        return Ok(None);
    };
    let listener = config::Http {
        port: address.port(),
        bind: vec![address.ip()],
        ..config::Http::default()
    };
    http::listen(&listener, &page::router(Arc::clone(page)), tasks)
        .map(Some)
        .map_err(|error| Fault::Listen(address, reason(&error)))
}

/// Without the advice to change an option: this address is Supervisor's choice.
fn reason(error: &StartError) -> String {
    match error {
        StartError::InUse { .. } => "another program has it".to_owned(),
        StartError::NotAllowed { .. } => "this user may not".to_owned(),
        StartError::Other { error, .. } => error.to_string(),
        // There is none here.
        StartError::Certificate(error) => error.to_string(),
    }
}

/// Whether ingress may be listened for there. Everywhere would be too much.
fn is_one_address(address: SocketAddr) -> bool {
    !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0
}

#[cfg(test)]
mod tests;
