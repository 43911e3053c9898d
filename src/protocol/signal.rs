//! Frames of the signalling connection.

use crate::protocol::livekit::{SignalResponse, signal_response};

/// A response that is encoded at most once per form, whoever it goes to.
#[derive(Debug)]
pub struct Encoded {
    response: SignalResponse,
}

impl Encoded {
    /// Wraps a message; nothing is encoded yet.
    pub fn new(message: signal_response::Message) -> Self {
        Self {
            response: SignalResponse {
                message: Some(message),
            },
        }
    }

    /// The message itself.
    pub fn message(&self) -> Option<&signal_response::Message> {
        self.response.message.as_ref()
    }
}
