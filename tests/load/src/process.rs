//! A server's process as the kernel sees it: CPU time, memory; starting and ending one.

use anyhow::{Context, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// CPU time of all threads so far, ns.
pub fn cpu(pid: u32) -> Result<u64> {
    let mut total = 0;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).context("no such process")?;
    for task in tasks {
        // A thread may end meanwhile.
        if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
            let first = text.split_whitespace().next().unwrap_or("0");
            total += first.parse::<u64>()?;
        }
    }
    Ok(total)
}

/// Resident memory, bytes.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// A program under measurement, ended with this value.
pub struct Program(pub Child);

impl Program {
    /// Starts it, on one CPU if so told.
    pub fn start(
        program: &str,
        arguments: &[String],
        cpu: Option<u32>,
        input: Stdio,
    ) -> Result<Self> {
        let mut command = match cpu {
            None => Command::new(program),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string(), program]);
                command
            }
        };
        let log = std::fs::File::create(std::env::temp_dir().join("parlor-load-server.log"))?;
        let child = command
            .args(arguments)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self(child))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that are free now: two of TCP, one of UDP.
pub fn free_ports(ip: IpAddr) -> Result<[u16; 3]> {
    let one = TcpListener::bind((ip, 0))?;
    let two = TcpListener::bind((ip, 0))?;
    let three = UdpSocket::bind((ip, 0))?;
    Ok([
        one.local_addr()?.port(),
        two.local_addr()?.port(),
        three.local_addr()?.port(),
    ])
}

/// Waits until the port takes connections; returns how long that took.
pub fn wait_port(address: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if TcpStream::connect(address).is_ok() {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("nothing listens on {address}; see parlor-load-server.log in the temporary directory")
}

/// Waits for the first answer over HTTP.
pub fn wait_answer(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut head = [0; 12];
            if stream.read_exact(&mut head).is_ok() && head.starts_with(b"HTTP/1.1 200") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("{address} does not answer")
}
