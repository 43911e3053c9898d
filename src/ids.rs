//! Names of the things a call is made of. Strings are shared (`Arc<str>`), numbers are issued by one room.

use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", &self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A room's name, as the token gives it.
    RoomName
);
text_id!(
    /// A participant's identity: unique in its room, chosen by the application.
    Identity
);
text_id!(
    /// `PA_…`: one stay of a participant in a room.
    ParticipantSid
);
text_id!(
    /// `TR_…`: one publication.
    TrackSid
);
text_id!(
    /// `DTR_…`: one published data track.
    DataTrackSid
);
text_id!(
    /// The `a=mid` of a media section (RFC 8843), at most 16 bytes where we issue it.
    Mid
);
text_id!(
    /// The restriction identifier of a simulcast layer (RFC 8851).
    Rid
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
    };
}

number_id!(
    /// One peer connection's transport, unique in the process.
    TransportId,
    u64
);
number_id!(
    /// One published media track as the workers know it, unique in the process.
    UpTrackId,
    u64
);
number_id!(
    /// One up track sent to one subscriber, unique in the process.
    DownTrackId,
    u64
);
number_id!(
    /// A media worker, counted from 0.
    WorkerId,
    u8
);
number_id!(
    /// RTP synchronisation source (RFC 3550 §3).
    Ssrc,
    u32
);
number_id!(
    /// RTP payload type, 0–127.
    PayloadType,
    u8
);
