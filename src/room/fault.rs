//! What clients do wrong, by cause.

use super::Room;

/// A fault of a client. Nobody is told of it but whoever reads the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An answer that does not fit our offer, or is none.
    AnswerRefused,
    /// Wishes about more tracks that are not there than are kept.
    AwaitedTracks,
    /// A data packet that is none.
    DataPacketUnreadable,
    /// Data from somebody who may not publish it.
    DataForbidden,
    /// A data message longer than our SDP allows.
    DataTooLarge,
    /// A packet of a data track that is not published, or is too short for its header.
    DataTrackPacket,
    /// A reliable data channel that takes nothing any more.
    DataChannelStuck,
    /// A signal frame that is no request.
    FrameUnreadable,
    /// An offer that cannot be answered.
    OfferRefused,
    /// A transcription from somebody who is no agent.
    TranscriptionForbidden,
    /// A trickle that is no candidate init.
    TrickleUnreadable,
}

/// How often each fault was made, in the order of [`Fault::ALL`].
pub type Faults = [u64; Fault::ALL.len()];

impl Fault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::AnswerRefused,
        Self::AwaitedTracks,
        Self::DataPacketUnreadable,
        Self::DataForbidden,
        Self::DataTooLarge,
        Self::DataTrackPacket,
        Self::DataChannelStuck,
        Self::FrameUnreadable,
        Self::OfferRefused,
        Self::TranscriptionForbidden,
        Self::TrickleUnreadable,
    ];

    /// As a label of the numbers has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnswerRefused => "answer_refused",
            Self::AwaitedTracks => "awaited_tracks",
            Self::DataPacketUnreadable => "data_packet_unreadable",
            Self::DataForbidden => "data_forbidden",
            Self::DataTooLarge => "data_too_large",
            Self::DataTrackPacket => "data_track_packet",
            Self::DataChannelStuck => "data_channel_stuck",
            Self::FrameUnreadable => "frame_unreadable",
            Self::OfferRefused => "offer_refused",
            Self::TranscriptionForbidden => "transcription_forbidden",
            Self::TrickleUnreadable => "trickle_unreadable",
        }
    }
}

impl Room {
    /// Counts a fault of a client.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// The faults since the last call.
    pub fn take_faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }
}
