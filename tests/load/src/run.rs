//! One run against one server: everybody joins, media flows, the server's account is read before and after.

use crate::Load;
use crate::client::Client;
use crate::process;
use crate::signal::{Crowd, SSRC, Server};
use crate::swarm::{Command, Swarm, View};
use anyhow::{Context, Result};
use parlor::media::certificate::Certificate;
use parlor::plan::Kind;
use serde_json::{Value, json};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Media flows this long before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is on its way arrives in this time.
const DRAIN: Duration = Duration::from_millis(300);
/// A client that is not connected, or has no media, after this time never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is loaded.
pub enum Target {
    LiveKit {
        url: String,
        key: String,
        secret: String,
        room: String,
        single: bool,
    },
    Exchange(SocketAddr),
}

/// What a run found. Of the server's account only with its process id.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub subscribers: usize,
    pub seconds: f64,
    pub forwarded: u64,
    pub lost: i64,
    pub refused: u64,
    pub late: u64,
    pub nacked: u64,
    pub verified: u64,
    pub wrong: u64,
    pub delay_p50_us: f64,
    pub delay_p99_us: f64,
    pub delay_max_us: f64,
    pub wire_len: usize,
    pub clear_len: usize,
    pub cpu_ns_per_packet: Option<f64>,
    /// Of one core.
    pub cpu_percent: Option<f64>,
    pub cpu_us_per_join: Option<f64>,
    pub memory_idle: Option<u64>,
    /// When all are connected, and at the end of the load.
    pub memory_per_subscriber_joined: Option<f64>,
    pub memory_per_subscriber: Option<f64>,
}

impl Report {
    pub fn json(&self) -> Value {
        json!({
            "subscribers": self.subscribers,
            "seconds": self.seconds,
            "forwarded_packets": self.forwarded,
            "lost_packets": self.lost,
            "verified_packets": self.verified,
            "wrong_packets": self.wrong,
            "packets_asked_for_again": self.nacked,
            "bursts_refused_here": self.refused,
            "bursts_late_here": self.late,
            "delay_p50_us": self.delay_p50_us,
            "delay_p99_us": self.delay_p99_us,
            "delay_max_us": self.delay_max_us,
            "wire_bytes": self.wire_len,
            "clear_bytes": self.clear_len,
            "cpu_ns_per_packet": self.cpu_ns_per_packet,
            "cpu_percent_of_a_core": self.cpu_percent,
            "cpu_us_per_join": self.cpu_us_per_join,
            "memory_idle_bytes": self.memory_idle,
            "memory_bytes_per_subscriber_joined": self.memory_per_subscriber_joined,
            "memory_bytes_per_subscriber": self.memory_per_subscriber,
        })
    }

    /// What the clients saw, from the reset to the end.
    fn take(&mut self, start: &View, end: &View, last: &View, first: usize) {
        let subscribers = &last.counts[first..];
        let total: u64 = subscribers.iter().map(|counts| counts.received).sum();
        self.forwarded = end.received() - start.received();
        self.lost = (last.sent * subscribers.len() as u64) as i64 - total as i64;
        self.refused = last.refused;
        self.late = last.late;
        self.wire_len = last.wire_len;
        self.clear_len = last.clear_len;
        self.nacked = last.counts.iter().map(|counts| counts.nacked).sum();
        self.verified = subscribers.iter().map(|counts| counts.verified).sum();
        self.wrong = subscribers.iter().map(|counts| counts.wrong).sum();
        let mut delays: Vec<u64> = subscribers
            .iter()
            .flat_map(|counts| counts.delays.iter().copied())
            .collect();
        delays.sort_unstable();
        let at = |share: f64| {
            let place = (delays.len().saturating_sub(1) as f64 * share) as usize;
            delays.get(place).map_or(0.0, |ns| *ns as f64 / 1_000.0)
        };
        self.delay_p50_us = at(0.5);
        self.delay_p99_us = at(0.99);
        self.delay_max_us = at(1.0);
    }
}

/// The server's account.
struct Account(Option<u32>);

impl Account {
    fn cpu(&self) -> Result<Option<u64>> {
        self.0.map(process::cpu).transpose()
    }

    fn memory(&self) -> Result<Option<u64>> {
        self.0.map(process::memory).transpose()
    }
}

fn since(before: Option<u64>, after: Option<u64>) -> Option<f64> {
    Some(after?.saturating_sub(before?) as f64)
}

/// Joins, publishes, measures.
pub fn run(target: &Target, load: &Load, pid: Option<u32>) -> Result<Report> {
    let shape = load.media.shape()?;
    let account = Account(pid);
    let server = server(target)?;
    let mut report = Report {
        subscribers: load.subscribers,
        memory_idle: account.memory()?,
        ..Report::default()
    };
    let crowd = Crowd {
        swarm: Swarm::start(shape, Instant::now()),
        bind: load.media.bind_ip,
        certificate: Arc::new(Certificate::generate()),
        kind: if load.media.audio {
            Kind::Audio
        } else {
            Kind::Video
        },
        sample: load.sample.max(1),
    };
    let swarm = &crowd.swarm;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime
        .block_on(crowd.join(&server, 0))
        .context("the publisher's join")?;
    swarm.wait_connected(1, PATIENCE)?;
    if matches!(target, Target::Exchange(_)) {
        // It makes its subscribers' tracks by the publisher's, which it learns of by its media.
        swarm.tell(Command::Publish(Some(SSRC)))?;
        std::thread::sleep(DRAIN);
        swarm.tell(Command::Publish(None))?;
    }
    std::thread::sleep(DRAIN);
    let (cpu, memory) = (account.cpu()?, account.memory()?);
    for index in 1..=load.subscribers {
        runtime
            .block_on(crowd.join(&server, index))
            .with_context(|| format!("join of subscriber {index}"))?;
        // One by one: a crowd at once is another test, and on few cores one of this program.
        swarm.wait_connected(index + 1, PATIENCE)?;
    }
    std::thread::sleep(DRAIN);
    let each = load.subscribers.max(1) as f64;
    report.cpu_us_per_join = since(cpu, account.cpu()?).map(|ns| ns / each / 1_000.0);
    report.memory_per_subscriber_joined =
        since(memory, account.memory()?).map(|bytes| bytes / each);
    swarm.tell(Command::Publish(Some(SSRC)))?;
    swarm.wait_media(1, PATIENCE)?;
    measure(swarm, load, &account, &mut report, 1)?;
    report.memory_per_subscriber = since(memory, account.memory()?).map(|bytes| bytes / each);
    swarm.tell(Command::Stop)?;
    runtime.shutdown_background();
    Ok(report)
}

/// The floor: bare sockets that it sends to. `pid` sends to `clients` already.
pub fn receive_floor(swarm: &Swarm, load: &Load, pid: u32) -> Result<Report> {
    let mut report = Report {
        subscribers: load.subscribers,
        ..Report::default()
    };
    swarm.wait_media(0, PATIENCE)?;
    measure(swarm, load, &Account(Some(pid)), &mut report, 0)?;
    report.lost = 0;
    Ok(report)
}

/// Bare sockets, and where they are.
pub fn bare_swarm(load: &Load) -> Result<(Swarm, Vec<SocketAddr>)> {
    let swarm = Swarm::start(load.media.shape()?, Instant::now());
    let mut addresses = Vec::new();
    for _ in 0..load.subscribers {
        let client = Client::bare(load.media.bind_ip, Instant::now())?;
        addresses.push(client.udp.local);
        swarm.tell(Command::Add(Box::new(client)))?;
    }
    Ok((swarm, addresses))
}

fn measure(
    swarm: &Swarm,
    load: &Load,
    account: &Account,
    report: &mut Report,
    first: usize,
) -> Result<()> {
    let publishes = first > 0;
    if publishes {
        // Counting begins in a pause: so every packet that is sent is either counted by all, or lost.
        swarm.tell(Command::Publish(None))?;
        std::thread::sleep(DRAIN);
        swarm.tell(Command::Reset)?;
        swarm.tell(Command::Publish(Some(SSRC)))?;
    }
    std::thread::sleep(WARM_UP);
    swarm.tell(Command::ForgetDelays)?;
    let (start, cpu, at) = (swarm.look()?, account.cpu()?, Instant::now());
    std::thread::sleep(Duration::from_secs(load.seconds));
    let (end, cpu_end) = (swarm.look()?, account.cpu()?);
    report.seconds = at.elapsed().as_secs_f64();
    if publishes {
        swarm.tell(Command::Publish(None))?;
    }
    std::thread::sleep(DRAIN);
    let last = swarm.look()?;
    report.take(&start, &end, &last, first);
    anyhow::ensure!(
        last.lost == 0,
        "{} clients lost their connection",
        last.lost
    );
    if let Some(ns) = since(cpu, cpu_end) {
        report.cpu_ns_per_packet = Some(ns / report.forwarded.max(1) as f64);
        report.cpu_percent = Some(ns / report.seconds / 1e7);
    }
    Ok(())
}

fn server(target: &Target) -> Result<Server> {
    Ok(match target {
        Target::Exchange(address) => Server::Exchange(*address),
        Target::LiveKit {
            url,
            key,
            secret,
            room,
            single,
        } => {
            let rest = url
                .strip_prefix("ws://")
                .context("the URL begins with ws://")?;
            let (host, base) = rest.split_once('/').unwrap_or((rest, ""));
            let full = if host.contains(':') {
                host.to_owned()
            } else {
                format!("{host}:80")
            };
            Server::LiveKit {
                address: full.to_socket_addrs()?.next().context("no such host")?,
                base: if base.is_empty() {
                    String::new()
                } else {
                    format!("/{}", base.trim_end_matches('/'))
                },
                host: host.to_owned(),
                key: key.clone(),
                secret: secret.clone(),
                room: room.clone(),
                single: *single,
            }
        }
    })
}
