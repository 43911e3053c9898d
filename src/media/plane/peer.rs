//! One transport with what the plane keeps beside it: paths, the plan of what it receives, who sends to it.

use crate::ids::{Ssrc, TransportId};
use crate::media::io::Path;
use crate::media::route::Routes;
use crate::media::timers::Armed;
use crate::media::transport::Transport;
use crate::media::twcc::TwccRecorder;
use crate::plan::ReceivePlan;
use std::time::{Duration, Instant};

/// Paths of one transport that are remembered; ICE checks a handful.
pub(super) const MAX_PATHS: usize = 16;
/// Pause between receiver reports.
pub(super) const REPORT: Duration = Duration::from_secs(1);

/// A transport.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: TransportId,
    pub(super) transport: Transport,
    /// Local ufrags that lead here, the newest last; the one before an ICE restart stays good for a while.
    pub(super) ufrags: Vec<Box<str>>,
    /// Paths that lead here, the newest last.
    pub(super) paths: Vec<Path>,
    pub(super) armed: Armed,
    pub(super) is_touched: bool,
    /// Data messages read since the plane's events were all taken.
    pub(super) read: u32,
    /// What it receives.
    pub(super) plan: ReceivePlan,
    pub(super) routes: Routes,
    /// Places of the up tracks of the plan, in its order.
    pub(super) ups: Vec<u32>,
    /// Places of the down tracks that go to it.
    pub(super) downs: Vec<u32>,
    /// Arrivals with transport-wide numbers.
    pub(super) twcc: TwccRecorder,
    /// When the next receiver report is due.
    pub(super) report_at: Option<Instant>,
    /// When something missing may be asked for.
    pub(super) nack_at: Option<Instant>,
    /// When a kept key frame request may go.
    pub(super) key_frame_at: Option<Instant>,
    /// When the room is told next how its tracks fare.
    pub(super) quality_at: Option<Instant>,
    /// Our source towards it in feedback.
    pub(super) local_ssrc: Ssrc,
    /// Next transport-wide number of what we send.
    pub(super) transport_seq: u16,
    /// The last estimate of its receiver, bits a second.
    pub(super) remb: Option<u64>,
    /// Estimates above this are cut, bits a second.
    pub(super) ceiling: Option<u64>,
}
