//! The floor: seals one packet for each of N receivers and sends it, by the calls that a forwarder needs at least, and
//! does nothing else. What a forwarder costs above it is its own.

use crate::client::Udp;
use crate::swarm::Shape;
use anyhow::{Context, Result};
use parlor::media::srtp::{Profile, RTP_OVERHEAD, Sealer, derive};
use parlor::random::Random;
use std::io::BufRead as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Sends to the addresses on standard input, until it is ended.
pub fn run(shape: Shape, bind: IpAddr) -> Result<()> {
    let udp = Udp::bind(bind)?;
    let mut random = Random::system();
    let mut receivers: Vec<(SocketAddr, Sealer)> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let mut material = [0; 88];
        random.fill(&mut material);
        let (sealer, _) =
            derive(Profile::Gcm256, &material, true).context("key material of a wrong length")?;
        receivers.push((line?.parse()?, sealer));
    }
    let size = shape.packet_size;
    let stride = size + RTP_OVERHEAD;
    let mut packet = vec![0x5a; size];
    packet[..12].copy_from_slice(&[0x80, crate::sdp::VP8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut slab = vec![0; stride * shape.burst];
    let mut index = 1_u64;
    let mut next = Instant::now();
    loop {
        for (to, sealer) in &receivers {
            for (place, out) in slab.chunks_exact_mut(stride).enumerate() {
                let index = index + place as u64;
                packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                out[..size].copy_from_slice(&packet);
                sealer.seal_rtp(out, 12, size, index);
            }
            // A full buffer shows as loss.
            let _ = udp.send(*to, &slab, stride);
        }
        index += shape.burst as u64;
        next += shape.period();
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
