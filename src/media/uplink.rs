//! Stands in for what is told to publishers until it lands: nothing is missed and nothing reported.

use crate::ids::Ssrc;
use crate::rtp::rtcp::ReportBlock;
use std::time::Instant;

/// What is missing.
#[derive(Debug, Default)]
pub struct NackGenerator;

impl NackGenerator {
    /// A packet came.
    pub fn handle(&mut self, _now: Instant, _index: u64) {}
    /// A packet was repaired.
    pub fn handle_recovered(&mut self, _index: u64) {}
    /// When to ask.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }
    /// What to ask for.
    pub fn poll(&mut self, _now: Instant, _out: &mut [u16]) -> usize {
        0
    }
}

/// Reports.
#[derive(Debug, Default)]
pub struct Reception;

impl Reception {
    /// A packet came.
    pub fn handle(&mut self, _now: Instant, _index: u64, _timestamp: u32, _rate: u32) {}
    /// A report came.
    pub fn handle_sender_report(&mut self, _now: Instant, _ntp: u64) {}
    /// The report.
    pub fn report(&mut self, _now: Instant, _ssrc: Ssrc) -> Option<ReportBlock> {
        None
    }
}

/// Arrivals.
#[derive(Debug, Default)]
pub struct TwccRecorder;

impl TwccRecorder {
    /// A packet came.
    pub fn handle(&mut self, _now: Instant, _seq: u16, _ssrc: Ssrc) {}
    /// Writes the feedback.
    pub fn write(&mut self, _sender: Ssrc, _out: &mut [u8]) -> usize {
        0
    }
}
