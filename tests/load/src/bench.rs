//! Parlor and its yardsticks by turns, each in a fresh process; medians over the rounds.

use crate::process::{Program, cpu, free_ports, memory, wait_answer, wait_port};
use crate::run::{Report, Target, bare_swarm, receive_floor, run};
use crate::swarm::Command as SwarmCommand;
use crate::{Load, Media};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What all that start servers want to know.
#[derive(Debug, Clone, Args)]
pub struct Programs {
    /// The server.
    #[arg(long, default_value = "target/release/parlor")]
    parlor: String,
    /// The server under measurement on CPU 0, this program on CPU 1.
    #[arg(long)]
    pin: bool,
}

impl Programs {
    fn server_cpu(&self) -> Option<u32> {
        self.pin.then_some(0)
    }

    /// Starts Parlor; returns where it listens.
    fn start_parlor(&self, media: &Media) -> Result<(Program, SocketAddr)> {
        let [http, tcp, udp] = free_ports(media.bind_ip)?;
        let yaml = format!("port: {http}\nrtc: {{tcp_port: {tcp}, udp_port: {udp}}}\n");
        let ip = media.bind_ip.to_string();
        let arguments = ["--dev", "--bind", &ip, "--config-body", &yaml].map(str::to_owned);
        let program = Program::start(&self.parlor, &arguments, self.server_cpu(), Stdio::null())?;
        Ok((program, SocketAddr::new(media.bind_ip, http)))
    }
}

#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    programs: Programs,
    /// The yardstick; without it only Parlor and the floor are measured.
    #[arg(long)]
    webrtc_forwarder: Option<String>,
    /// Rounds; each measures all of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Two peer connections, as older clients make.
    #[arg(long)]
    v0: bool,
    #[command(flatten)]
    load: Load,
}

/// Runs it and prints the report.
pub fn bench(bench: &Bench) -> Result<()> {
    if bench.programs.pin {
        let own = std::process::id().to_string();
        Command::new("taskset")
            .args(["-acp", "1", &own])
            .stdout(Stdio::null())
            .status()?;
    }
    let mut parlor = Vec::new();
    let mut floor = Vec::new();
    let mut webrtc = Vec::new();
    for round in 1..=bench.rounds {
        parlor.push(of_parlor(bench).context("parlor")?);
        let wire_len = parlor.last().map_or(0, |report: &Report| report.wire_len);
        floor.push(of_floor(bench, wire_len).context("the floor")?);
        if let Some(program) = &bench.webrtc_forwarder {
            webrtc.push(of_webrtc(bench, program).context("the webrtc forwarder")?);
        }
        eprintln!(
            "round {round}: parlor {:.0}, floor {:.0}, webrtc {:.0} ns a packet",
            cost(&parlor[round - 1..]),
            cost(&floor[round - 1..]),
            cost(webrtc.get(round - 1..).unwrap_or_default()),
        );
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let report = json!({
        "rounds": bench.rounds,
        "subscribers": bench.load.subscribers,
        "packet_size": bench.load.media.packet_size,
        "burst": bench.load.media.burst,
        "packets_per_second": bench.load.media.packets_per_second,
        "audio": bench.load.media.audio,
        "pinned": bench.programs.pin,
        "loadavg": load.trim(),
        "parlor": summary(&parlor),
        "floor": summary(&floor),
        "webrtc": summary(&webrtc),
        "parlor_over_floor": cost(&parlor) / cost(&floor),
        "webrtc_over_parlor": cost(&webrtc) / cost(&parlor),
    });
    println!("{report:#}");
    Ok(())
}

fn of_parlor(bench: &Bench) -> Result<Report> {
    let (program, address) = bench.programs.start_parlor(&bench.load.media)?;
    wait_answer(address)?;
    // It settles: what a start costs is not what it is measured for here.
    std::thread::sleep(Duration::from_millis(500));
    let target = Target::LiveKit {
        url: format!("ws://{address}"),
        key: "devkey".to_owned(),
        secret: "secret".to_owned(),
        room: "load".to_owned(),
        single: !bench.v0,
    };
    run(&target, &bench.load, Some(program.pid()))
}

fn of_webrtc(bench: &Bench, program: &str) -> Result<Report> {
    let ip = bench.load.media.bind_ip;
    let [port, ..] = free_ports(ip)?;
    let address = SocketAddr::new(ip, port);
    let arguments = [address.to_string()];
    let program = Program::start(
        program,
        &arguments,
        bench.programs.server_cpu(),
        Stdio::null(),
    )?;
    wait_port(address)?;
    run(&Target::Exchange(address), &bench.load, Some(program.pid()))
}

fn of_floor(bench: &Bench, wire_len: usize) -> Result<Report> {
    let (swarm, addresses) = bare_swarm(&bench.load)?;
    let media = &bench.load.media;
    // What the server sends has other header extensions than what it got.
    let size = wire_len
        .checked_sub(16)
        .filter(|size| *size > 60)
        .unwrap_or(media.packet_size);
    let arguments = [
        "floor".to_owned(),
        format!("--packet-size={size}"),
        format!("--burst={}", media.burst),
        format!("--packets-per-second={}", media.packets_per_second),
        format!("--bind-ip={}", media.bind_ip),
    ];
    let own = std::env::current_exe()?;
    let own = own.to_str().context("a path in UTF-8")?;
    let mut program = Program::start(own, &arguments, bench.programs.server_cpu(), Stdio::piped())?;
    let mut input = program.0.stdin.take().context("its standard input")?;
    for address in addresses {
        writeln!(input, "{address}")?;
    }
    drop(input);
    let report = receive_floor(&swarm, &bench.load, program.pid())?;
    swarm.tell(SwarmCommand::Stop)?;
    Ok(report)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn of(reports: &[Report], value: impl Fn(&Report) -> Option<f64>) -> f64 {
    median(reports.iter().filter_map(value).collect())
}

fn cost(reports: &[Report]) -> f64 {
    of(reports, |report| report.cpu_ns_per_packet)
}

fn summary(reports: &[Report]) -> Value {
    let costs: Vec<f64> = reports
        .iter()
        .filter_map(|report| report.cpu_ns_per_packet)
        .collect();
    json!({
        "cpu_ns_per_packet": cost(reports),
        "cpu_ns_per_packet_of_each_round": costs,
        "cpu_percent_of_a_core": of(reports, |report| report.cpu_percent),
        "cpu_us_per_join": of(reports, |report| report.cpu_us_per_join),
        "memory_idle_bytes": of(reports, |report| Some(report.memory_idle? as f64)),
        "memory_bytes_per_subscriber_joined": of(reports, |report| report.memory_per_subscriber_joined),
        "memory_bytes_per_subscriber": of(reports, |report| report.memory_per_subscriber),
        "forwarded_packets": reports.iter().map(|report| report.forwarded).sum::<u64>(),
        "lost_packets": reports.iter().map(|report| report.lost).sum::<i64>(),
        "wrong_packets": reports.iter().map(|report| report.wrong).sum::<u64>(),
        "bursts_late_here": reports.iter().map(|report| report.late).sum::<u64>(),
        "delay_p50_us": of(reports, |report| Some(report.delay_p50_us)),
        "delay_p99_us": of(reports, |report| Some(report.delay_p99_us)),
        "wire_bytes": of(reports, |report| Some(report.wire_len as f64)),
    })
}

#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    programs: Programs,
    /// Starts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long nothing is done, after three seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    media: Media,
}

/// Starts it, waits, prints the report.
pub fn idle(idle: &Idle) -> Result<()> {
    let mut starts = Vec::new();
    let mut start_costs = Vec::new();
    let mut loads = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..idle.rounds {
        let begin = Instant::now();
        let (program, address) = idle.programs.start_parlor(&idle.media)?;
        wait_answer(address)?;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        start_costs.push(cpu(program.pid())? as f64 / 1e6);
        std::thread::sleep(Duration::from_secs(3));
        let (before, at) = (cpu(program.pid())?, Instant::now());
        std::thread::sleep(Duration::from_secs(idle.seconds));
        let spent = cpu(program.pid())?.saturating_sub(before) as f64;
        loads.push(spent / at.elapsed().as_nanos() as f64 * 100.0);
        sizes.push(memory(program.pid())? as f64);
    }
    let report = json!({
        "rounds": idle.rounds,
        "start_to_first_answer_ms": median(starts.clone()),
        "start_to_first_answer_least_ms": starts.into_iter().fold(f64::INFINITY, f64::min),
        "cpu_to_first_answer_ms": median(start_costs),
        "idle_cpu_percent_of_a_core": median(loads),
        "idle_memory_bytes": median(sizes),
    });
    println!("{report:#}");
    Ok(())
}
