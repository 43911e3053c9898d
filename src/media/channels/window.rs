//! Lets a peer that has stopped for want of window go on as soon as there is one again.
//!
//! `sctp-proto` tells its receive window with the SACKs that arriving data causes, and only with those. A peer that
//! finds the window closed sends one chunk again and again, at intervals that double (RFC 9260 §6.1 A, §6.3.3), and
//! each is dropped: when what was held back is read at last, it would notice seconds later, and begin slowly. So the
//! newest of them is kept, and reaches the association when there is room, as if the network had delayed it.

/// What the peer knows of our receive window, and what it has tried since.
#[derive(Debug)]
pub(super) struct Window {
    /// What counts as room again, bytes.
    room: usize,
    is_closed: bool,
    /// The packet with the next chunk that is missing.
    kept: Option<Box<[u8]>>,
    /// Bytes read since it came first.
    read: usize,
}

impl Window {
    /// Of `whole` bytes, all of them free.
    pub(super) fn new(whole: u32) -> Self {
        Self {
            room: whole as usize / 4,
            is_closed: false,
            kept: None,
            read: 0,
        }
    }

    /// Whether the association drops what comes.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A packet brings the next chunk that is missing, and is not taken now.
    pub(super) fn keep(&mut self, packet: &[u8]) {
        if self.kept.is_none() {
            self.read = 0;
        }
        self.kept = Some(packet.into());
    }

    /// A message of that many bytes was read.
    pub(super) fn handle_read(&mut self, bytes: usize) {
        self.read += bytes;
    }

    /// A SACK of ours tells how much is free, bytes.
    pub(super) fn handle_sack(&mut self, credit: u32) {
        self.is_closed = credit == 0;
        if credit > 0 {
            self.kept = None;
        }
    }

    /// The packet that can be taken now. `empty`: nothing is left that could be read.
    pub(super) fn take_kept(&mut self, empty: bool) -> Option<Box<[u8]>> {
        if !empty && self.read < self.room {
            return None;
        }
        let kept = self.kept.take();
        self.is_closed &= kept.is_none();
        kept
    }
}
