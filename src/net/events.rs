//! The way of a worker's events to the rooms: bounded, never blocking the worker.
//!
//! Each transport has the sender that its room gave. While a room's channel is full, what matters waits here in order,
//! merged (only the newest state of the connection, each layer once), its transport keeps its data messages, and a timer
//! tries again. A room whose channel is closed has forgotten the transport: it is closed. So it is when far too much
//! waits; then that is the last thing the room hears of it.

use crate::ids::TransportId;
use crate::plan::{Event, EventSender};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

/// When a full channel is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// Events of one transport that wait. Data is held back at the first one, all others are merged or bounded by the
/// tracks of the transport: more than this means that the room's task hangs.
const WAITING: usize = 1024;

/// What the outlets ask of the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Nobody listens any more, or far too slowly.
    Close(TransportId),
    /// Hold incoming data messages back, or let them come.
    Hold(TransportId, bool),
}

/// The senders of all transports of a worker.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    open: HashMap<TransportId, Outlet>,
    /// Transports with waiting events.
    waiting: Vec<TransportId>,
    retry_at: Option<Instant>,
    dropped: u64,
}

#[derive(Debug)]
struct Outlet {
    sender: EventSender,
    waiting: VecDeque<Event>,
    /// Its transport was closed because too much waited; the room has yet to hear of it.
    is_ending: bool,
}

impl Outlets {
    pub(super) fn open(&mut self, id: TransportId, sender: EventSender) {
        let outlet = Outlet {
            sender,
            waiting: VecDeque::new(),
            is_ending: false,
        };
        self.open.insert(id, outlet);
    }

    /// What waits and what comes goes to another room.
    pub(super) fn redirect(&mut self, id: TransportId, sender: EventSender) {
        if let Some(outlet) = self.open.get_mut(&id) {
            outlet.sender = sender;
        }
    }

    pub(super) fn close(&mut self, id: TransportId) {
        self.open.remove(&id);
    }

    /// Open transports.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Events that found no room, or no place to wait.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// When [`Self::retry`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Hands an event to its room, or lets it wait.
    pub(super) fn push(&mut self, now: Instant, id: TransportId, event: Event) -> Option<Request> {
        let Some(outlet) = self.open.get_mut(&id) else {
            self.dropped += 1;
            return None;
        };
        if outlet.is_ending {
            self.dropped += 1;
            return None;
        }
        let event = if outlet.waiting.is_empty() {
            match outlet.sender.try_send(event) {
                Ok(()) => return None,
                Err(TrySendError::Full(event)) => event,
                Err(TrySendError::Closed(_)) => {
                    self.open.remove(&id);
                    return Some(Request::Close(id));
                }
            }
        } else {
            event
        };
        if outlet.waiting.is_empty() {
            self.waiting.push(id);
            self.retry_at.get_or_insert(now + RETRY);
            outlet.waiting.push_back(event);
            return Some(Request::Hold(id, true));
        }
        outlet
            .waiting
            .retain(|earlier| !is_replaced_by(earlier, &event));
        if outlet.waiting.len() >= WAITING {
            self.dropped += outlet.waiting.len() as u64 + 1;
            outlet.waiting.clear();
            outlet.waiting.push_back(Event::Closed { id });
            outlet.is_ending = true;
            return Some(Request::Close(id));
        }
        outlet.waiting.push_back(event);
        None
    }

    /// Tries what waits again, when it is time.
    pub(super) fn retry(&mut self, now: Instant, mut request: impl FnMut(Request)) {
        if self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let open = &mut self.open;
        self.waiting.retain(|&id| {
            let Some(outlet) = open.get_mut(&id) else {
                return false;
            };
            while let Some(event) = outlet.waiting.pop_front() {
                match outlet.sender.try_send(event) {
                    Ok(()) => {}
                    Err(TrySendError::Full(event)) => {
                        outlet.waiting.push_front(event);
                        return true;
                    }
                    Err(TrySendError::Closed(_)) => {
                        open.remove(&id);
                        request(Request::Close(id));
                        return false;
                    }
                }
            }
            if outlet.is_ending {
                open.remove(&id);
            } else {
                request(Request::Hold(id, false));
            }
            false
        });
        if !self.waiting.is_empty() {
            self.retry_at = Some(now + RETRY);
        }
    }
}

/// Whether nobody needs the earlier event once the later one is told.
fn is_replaced_by(earlier: &Event, later: &Event) -> bool {
    match (earlier, later) {
        (
            Event::Connected { .. } | Event::Disconnected { .. },
            Event::Connected { .. } | Event::Disconnected { .. },
        )
        | (Event::Behind { .. }, Event::Behind { .. })
        | (Event::ChannelOpen { .. }, Event::ChannelOpen { .. })
        | (Event::ChannelStuck { .. }, Event::ChannelStuck { .. })
        | (Event::Quality { .. }, Event::Quality { .. }) => true,
        (
            Event::LayerSeen {
                up: one,
                spatial: layer,
                ..
            },
            Event::LayerSeen {
                up: two, spatial, ..
            },
        ) => (one, layer) == (two, spatial),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Channel;
    use bytes::Bytes;
    use tokio::sync::mpsc;

    const ID: TransportId = TransportId(1);

    fn data(number: u8) -> Event {
        Event::Data {
            id: ID,
            channel: Channel::Reliable,
            payload: Bytes::copy_from_slice(&[number]),
        }
    }

    fn connected() -> Event {
        Event::Connected {
            id: ID,
            proto: crate::plan::Proto::Udp,
            remote: "192.0.2.1:9".parse().unwrap(),
        }
    }

    fn retry(outlets: &mut Outlets, now: Instant) -> Vec<Request> {
        let mut requests = Vec::new();
        outlets.retry(now, |request| requests.push(request));
        requests
    }

    #[test]
    fn a_full_room_holds_data_back_and_gets_all_in_order_later() {
        let mut outlets = Outlets::default();
        let (sender, mut room) = mpsc::channel(2);
        outlets.open(ID, sender);
        let now = crate::net::now();
        assert_eq!(outlets.push(now, ID, data(0)), None);
        assert_eq!(outlets.push(now, ID, data(1)), None);
        assert_eq!(outlets.next_timeout(), None);
        assert_eq!(
            outlets.push(now, ID, data(2)),
            Some(Request::Hold(ID, true))
        );
        assert_eq!(outlets.push(now, ID, data(3)), None);
        assert_eq!(outlets.push(now, ID, data(4)), None);
        let due = now + RETRY;
        assert_eq!(outlets.next_timeout(), Some(due));
        assert_eq!(retry(&mut outlets, now), []);

        let mut got = Vec::new();
        let mut take = |room: &mut mpsc::Receiver<Event>, count| {
            for _ in 0..count {
                let Ok(Event::Data { payload, .. }) = room.try_recv() else {
                    panic!("a message was due")
                };
                got.push(payload[0]);
            }
        };
        take(&mut room, 1);
        assert_eq!(retry(&mut outlets, due), []);
        assert_eq!(outlets.next_timeout(), Some(due + RETRY));
        take(&mut room, 2);
        assert_eq!(retry(&mut outlets, due + RETRY), [Request::Hold(ID, false)]);
        assert_eq!(outlets.next_timeout(), None);
        take(&mut room, 2);
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(outlets.dropped(), 0);
    }

    #[test]
    fn waiting_states_are_merged_and_the_newest_is_told() {
        let mut outlets = Outlets::default();
        let (sender, mut room) = mpsc::channel(1);
        outlets.open(ID, sender);
        let now = crate::net::now();
        outlets.push(now, ID, data(0));
        for _ in 0..5_000 {
            outlets.push(now, ID, connected());
            outlets.push(now, ID, Event::Disconnected { id: ID });
            outlets.push(now, ID, Event::ChannelStuck { id: ID });
            for behind in [true, false] {
                outlets.push(now, ID, Event::Behind { id: ID, behind });
            }
        }
        room.try_recv().unwrap();
        retry(&mut outlets, now + RETRY);
        assert!(matches!(room.try_recv(), Ok(Event::Disconnected { .. })));
        retry(&mut outlets, now + RETRY * 2);
        assert!(matches!(room.try_recv(), Ok(Event::ChannelStuck { .. })));
        retry(&mut outlets, now + RETRY * 3);
        let newest = room.try_recv();
        assert!(matches!(newest, Ok(Event::Behind { behind: false, .. })));
        assert!(room.try_recv().is_err());
    }

    #[test]
    fn a_room_that_hangs_or_has_gone_loses_its_transport_and_hears_of_it() {
        let mut outlets = Outlets::default();
        let (sender, mut room) = mpsc::channel(1);
        outlets.open(ID, sender);
        let now = crate::net::now();
        let mut closed = None;
        for number in 0..=WAITING + 1 {
            assert_eq!(closed, None, "at {number}");
            closed = outlets
                .push(now, ID, data(0))
                .filter(|request| *request == Request::Close(ID));
        }
        assert_eq!(closed, Some(Request::Close(ID)));
        assert_eq!(outlets.push(now, ID, connected()), None);
        assert!(matches!(room.try_recv(), Ok(Event::Data { .. })));
        assert_eq!(retry(&mut outlets, now + RETRY), []);
        assert!(matches!(room.try_recv(), Ok(Event::Closed { id: ID })));
        assert!(room.try_recv().is_err());
        assert_eq!((outlets.len(), outlets.next_timeout()), (0, None));
        drop(room);

        let (sender, room) = mpsc::channel(1);
        outlets.open(ID, sender);
        drop(room);
        assert_eq!(outlets.push(now, ID, data(0)), Some(Request::Close(ID)));
        assert_eq!(outlets.push(now, ID, data(0)), None);
    }

    #[test]
    fn a_redirected_transport_tells_the_other_room_what_waits_and_what_comes() {
        let mut outlets = Outlets::default();
        let (sender, mut old) = mpsc::channel(1);
        outlets.open(ID, sender);
        let now = crate::net::now();
        outlets.push(now, ID, data(0));
        outlets.push(now, ID, data(1));
        let (sender, mut new) = mpsc::channel(8);
        outlets.redirect(ID, sender);
        outlets.push(now, ID, data(2));
        assert_eq!(retry(&mut outlets, now + RETRY), [Request::Hold(ID, false)]);
        outlets.push(now, ID, data(3));
        let numbers = |room: &mut mpsc::Receiver<Event>| {
            let mut numbers = Vec::new();
            while let Ok(Event::Data { payload, .. }) = room.try_recv() {
                numbers.push(payload[0]);
            }
            numbers
        };
        assert_eq!(
            (numbers(&mut old), numbers(&mut new)),
            (vec![0], vec![1, 2, 3])
        );
    }

    #[test]
    fn a_transport_closed_while_events_wait_is_forgotten() {
        let mut outlets = Outlets::default();
        let (sender, _room) = mpsc::channel(1);
        outlets.open(ID, sender);
        let now = crate::net::now();
        outlets.push(now, ID, data(0));
        outlets.push(now, ID, data(1));
        outlets.close(ID);
        assert_eq!(retry(&mut outlets, now + RETRY), []);
        assert_eq!(outlets.next_timeout(), None);
    }
}
