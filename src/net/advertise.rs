//! Keeps what clients are told up to date: asks the interfaces when the kernel says so, and the STUN servers when
//! configured.
//!
//! Sockets stay as they are; a change of addresses reaches the workers and everyone who watches the candidates. A
//! failing STUN server is never the end: it is asked again, ever more rarely, and people hear of it once when it lasts.

use super::addresses::{self, Bound, Rules};
use super::external;
use super::netlink;
use super::worker::Input;
use super::{Handle, now};
use crate::config;
use crate::random::Random;
use crate::task::Tasks;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the interfaces are asked where the kernel does not tell of changes.
const SCAN: Duration = Duration::from_secs(30);
/// Addresses come in groups: a cable brings IPv4 and several of IPv6.
const SETTLE: Duration = Duration::from_millis(50);
/// Questions to the STUN servers without an answer, for about a minute, until people are told: a router may be starting
/// as well.
const PATIENCE: u32 = 4;

/// A time in which no STUN server answers, and what people know of it.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
}

impl Outage {
    /// Whether this failure is the one to tell people of.
    fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == PATIENCE
    }

    /// Whether people were told of what is over now.
    fn ended(&mut self) -> bool {
        std::mem::take(&mut self.failures) >= PATIENCE
    }
}

/// What decides over the candidates, and what is known at the moment.
#[derive(Debug)]
pub(super) struct Advertiser {
    rules: Rules,
    bound: Vec<Bound>,
    ips: Vec<IpAddr>,
    force_tcp: bool,
    /// From which address STUN servers are asked; `None`: never.
    source: Option<Ipv4Addr>,
    stun_servers: Vec<String>,
    external: Option<Ipv4Addr>,
    given: Vec<IpAddr>,
    outage: Outage,
    /// What people call the address, and the option to type it in.
    words: (&'static str, &'static str),
}

impl Advertiser {
    /// `bound` by worker.
    pub(super) fn new(rtc: &config::Rtc, bound: Vec<Bound>) -> Self {
        let mut ips: Vec<_> = bound.iter().flat_map(Bound::ips).collect();
        ips.sort_unstable_by_key(|ip| std::cmp::Reverse(*ip));
        ips.dedup();
        // An address that was given needs no question, and one on loopback has no outside.
        let source = ips.iter().find_map(|ip| match ip {
            IpAddr::V4(v4) if !v4.is_loopback() => Some(*v4),
            _ => None,
        });
        let mut known = rtc.node_ip.iter().chain(&rtc.external_ips);
        let given = known.any(IpAddr::is_ipv4);
        Self {
            rules: Rules::new(rtc),
            bound,
            ips,
            force_tcp: rtc.force_tcp,
            source: source.filter(|_| rtc.use_external_ip && !given),
            stun_servers: rtc.stun_servers.clone(),
            external: None,
            given: rtc.external_ips.clone(),
            outage: Outage::default(),
            // Spare ports are the app's alone.
            words: if rtc.udp_spares.is_some() {
                ("your router's address on the internet", "external_ip")
            } else {
                ("the public address", "rtc.node_ip")
            },
        }
    }

    /// The addresses to tell at this moment, best first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let interfaces = addresses::interfaces().unwrap_or_else(|error| {
            tracing::warn!(%error, "the interfaces of this host cannot be read");
            Vec::new()
        });
        let mut addresses = self.rules.usable(&interfaces, &self.ips);
        for external in self
            .given
            .iter()
            .copied()
            .chain(self.external.map(IpAddr::V4))
        {
            if !addresses.contains(&external) {
                addresses.push(external);
            }
        }
        addresses
    }

    /// The candidates of each worker.
    pub(super) fn candidates(&self, addresses: &[IpAddr]) -> Vec<Vec<crate::plan::LocalCandidate>> {
        self.bound
            .iter()
            .map(|bound| bound.candidates(addresses, self.force_tcp))
            .collect()
    }

    /// Whether anything can ever change.
    pub(super) fn has_work(&self) -> bool {
        self.source.is_some() || self.rules.depend_on_interfaces(&self.ips)
    }

    /// Runs until the tasks are stopped.
    pub(super) async fn run(
        mut self,
        mut told: Vec<IpAddr>,
        handle: Handle,
        mut random: Random,
        tasks: Tasks,
    ) {
        let mut ask_at = self.source.map(|_| now());
        let mut pause = external::RETRY;
        let mut changes = netlink::Changes::open().inspect_err(|error| {
            tracing::debug!(%error, "no netlink: addresses are looked at every 30 s");
        });
        loop {
            if let (Some(at), Some(source)) = (ask_at, self.source)
                && at <= now()
            {
                let asked = tokio::select! {
                    asked = external::discover(&self.stun_servers, source, &mut random) => asked,
                    () = tasks.cancelled() => return,
                };
                match asked {
                    Ok(address) => {
                        let is_news = self.external.replace(address) != Some(address);
                        if self.outage.ended() || is_news {
                            tracing::info!("{} is {address}", self.words.0);
                        }
                        pause = external::RETRY;
                        ask_at = Some(now() + external::RECHECK);
                    }
                    Err(error) => {
                        // The last known address stays: a server's failure does not move us.
                        if self.outage.failed() {
                            tracing::warn!("{}", self.not_known(&error.to_string()));
                        } else {
                            tracing::debug!(%error, retry = ?pause, "public address not learned");
                        }
                        ask_at = Some(now() + pause);
                        pause = (pause * 2).min(external::RECHECK);
                    }
                }
            }
            let addresses = self.addresses();
            if addresses != told {
                tracing::info!(?addresses, "addresses have changed");
                self.tell(&addresses, &handle).await;
                told = addresses;
            }
            let scan_at: Instant = now() + SCAN;
            let next = ask_at.map_or(scan_at, |at| at.min(scan_at));
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = netlink::changed(&mut changes) => tokio::time::sleep(SETTLE).await,
                () = tasks.cancelled() => return,
            }
        }
    }

    fn not_known(&self, reason: &str) -> String {
        let (address, option) = self.words;
        let known = self.external.map_or_else(
            || "known".to_owned(),
            |ip| format!("known to be {ip} still"),
        );
        format!(
            "{address} is not {known} ({reason}); calls from outside may fail; if it stays so, type it as {option}"
        )
    }

    async fn tell(&self, addresses: &[IpAddr], handle: &Handle) {
        let candidates = self.candidates(addresses);
        let interfaces = addresses::interfaces().unwrap_or_default();
        let host: Arc<[IpAddr]> = interfaces.iter().map(|interface| interface.ip).collect();
        for (seat, candidates) in handle.seats().zip(candidates) {
            // The worker first: it shall know an address before a client can be told of it.
            let host = Arc::clone(&host);
            let input = Input::Addresses {
                candidates: candidates.clone(),
                host,
            };
            seat.send(input).await;
            seat.candidates.send_replace(candidates.into());
        }
        handle.0.moved.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::rtc;

    #[test]
    fn an_outage_is_told_of_once_and_only_when_it_lasts() {
        let mut outage = Outage::default();
        assert!(!outage.failed());
        assert!(!outage.ended(), "too short to be told of");
        for _ in 0..2 {
            let told = (0..100).filter(|_| outage.failed()).count();
            assert_eq!(told, 1);
            assert!(outage.ended());
            assert!(!outage.ended());
        }
    }

    #[test]
    fn an_address_that_is_not_known_is_told_in_the_words_of_the_options() {
        let app = config::Rtc {
            udp_spares: Some(Vec::new()),
            ..rtc()
        };
        let mut advertiser = Advertiser::new(&app, Vec::new());
        assert_eq!(
            advertiser.not_known("a.example does not answer"),
            "your router's address on the internet is not known (a.example does not answer); calls from outside may fail; \
             if it stays so, type it as external_ip"
        );
        advertiser.external = Some(Ipv4Addr::new(203, 0, 113, 5));
        let text = advertiser.not_known("x");
        assert!(
            text.contains("is not known to be 203.0.113.5 still (x)"),
            "{text}"
        );
        let text = Advertiser::new(&rtc(), Vec::new()).not_known("x");
        assert!(
            text.starts_with("the public address is not known (x)"),
            "{text}"
        );
        assert!(text.ends_with("type it as rtc.node_ip"), "{text}");
    }
}
