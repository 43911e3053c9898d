//! `parlor-load`: one publisher and many subscribers on any LiveKit server, over real sockets and real DTLS-SRTP, and
//! what the server pays for them; the yardsticks beside it. docs/performance.md says how it is used.

mod bench;
mod client;
mod floor;
mod process;
mod run;
mod sdp;
mod signal;
mod swarm;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use swarm::Shape;

#[derive(Debug, Parser)]
#[command(
    name = "parlor-load",
    about = "Load for LiveKit servers, and what it costs them"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load one server that runs already.
    Run(Run),
    /// Parlor, the floor and the webrtc forwarder in turn; medians and ratios.
    Bench(bench::Bench),
    /// Start a server several times: first answer, CPU and memory while nobody is there.
    Idle(bench::Idle),
    /// The floor: seal and send, to the addresses on standard input. `bench` starts it.
    Floor(Floor),
}

/// The media.
#[derive(Debug, Clone, Copy, Args)]
struct Media {
    /// Bytes of an RTP packet before it is sealed.
    #[arg(long, default_value_t = 1_100)]
    packet_size: usize,
    /// Packets that are published at once.
    #[arg(long, default_value_t = 10)]
    burst: usize,
    /// Packets published a second.
    #[arg(long, default_value_t = 1_000)]
    packets_per_second: u32,
    /// Opus instead of VP8; say also --packet-size 120 --burst 1 --packets-per-second 50.
    #[arg(long)]
    audio: bool,
    /// Where the clients' sockets are bound.
    #[arg(long, default_value = "127.0.0.1")]
    bind_ip: IpAddr,
}

impl Media {
    fn shape(&self) -> Result<Shape> {
        let segments = self
            .packet_size
            .saturating_add(16)
            .saturating_mul(self.burst);
        anyhow::ensure!(
            self.packet_size >= 60,
            "a packet of less than 60 bytes has no room for a stamp"
        );
        anyhow::ensure!(
            (1..=64).contains(&self.burst) && segments <= 65_000,
            "a burst is one send: 1 to 64 packets, 65,000 bytes"
        );
        anyhow::ensure!(self.packets_per_second > 0, "no packets a second");
        Ok(Shape {
            packet_size: self.packet_size,
            burst: self.burst,
            rate: self.packets_per_second,
            audio: self.audio,
        })
    }
}

/// The crowd and the time.
#[derive(Debug, Clone, Copy, Args)]
struct Load {
    #[command(flatten)]
    media: Media,
    /// How many subscribe.
    #[arg(long, default_value_t = 50)]
    subscribers: usize,
    /// How long is measured, after two seconds that are not.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Every how many-th subscriber opens and checks each packet.
    #[arg(long, default_value_t = 16)]
    sample: usize,
}

#[derive(Debug, Args)]
struct Run {
    /// ws://host:port of a LiveKit server.
    #[arg(long)]
    url: Option<String>,
    /// host:port of a webrtc-forwarder instead.
    #[arg(long, conflicts_with = "url")]
    exchange: Option<SocketAddr>,
    #[arg(long, default_value = "devkey")]
    key: String,
    #[arg(long, default_value = "secret")]
    secret: String,
    #[arg(long, default_value = "load")]
    room: String,
    /// Two peer connections, as older clients make.
    #[arg(long, conflicts_with = "v1")]
    v0: bool,
    /// One peer connection; the default.
    #[arg(long)]
    v1: bool,
    /// Whose CPU time and memory are measured.
    #[arg(long)]
    server_pid: Option<u32>,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
struct Floor {
    #[command(flatten)]
    media: Media,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(run) => {
            let target = match (&run.url, run.exchange) {
                (_, Some(address)) => run::Target::Exchange(address),
                (Some(url), _) => run::Target::LiveKit {
                    url: url.clone(),
                    key: run.key.clone(),
                    secret: run.secret.clone(),
                    room: run.room.clone(),
                    single: !run.v0,
                },
                (None, None) => anyhow::bail!("--url or --exchange is needed"),
            };
            let report = run::run(&target, &run.load, run.server_pid)?;
            println!("{:#}", report.json());
        }
        Command::Bench(bench) => bench::bench(&bench)?,
        Command::Idle(idle) => bench::idle(&idle)?,
        Command::Floor(floor) => floor::run(floor.media.shape()?, floor.media.bind_ip)?,
    }
    Ok(())
}
