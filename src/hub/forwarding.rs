//! How two rooms that have the same participant hear of each other: the one that it is in, and the one that it is
//! forwarded to.
//!
//! Each way holds the newest value alone, so that neither room waits and nothing piles up. An end that is dropped ends
//! the other one, whatever became of its room.

use super::actor::{Actor, Ways};
use super::directory::Handle;
use super::{Answer, Call, CallError};
use crate::protocol::livekit::ForwardParticipantRequest;
use crate::room::{Demands, ForwardId, Forwarding, Guesting, Reflection};
use futures_util::future::{BoxFuture, FutureExt, select_all};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What is told of somebody who is forwarded.
#[derive(Debug, Clone)]
struct Told {
    reflection: Arc<Reflection>,
    /// How loud its microphone is.
    level: f32,
    /// How often that was told.
    levels: u64,
}

/// The end of the room that it is in.
#[derive(Debug)]
struct Source {
    told: watch::Sender<Told>,
    asked: watch::Receiver<Demands>,
}

/// The end of the room that it is forwarded to.
#[derive(Debug)]
pub(super) struct Guest {
    id: ForwardId,
    told: watch::Receiver<Told>,
    asked: watch::Sender<Demands>,
    /// What this room knows already.
    known: Told,
}

/// Both kinds of ends that a room has.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    sources: HashMap<ForwardId, Source>,
    guests: HashMap<ForwardId, Guest>,
}

/// Where something is new, or over.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    Source(ForwardId, Result<(), Over>),
    Guest(ForwardId, Result<(), Over>),
}

/// The other end is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over;

impl Forwards {
    /// Waits for the next news. Nothing is lost when this is given up.
    pub(super) async fn news(&mut self) -> News {
        let sources = self.sources.iter_mut().map(|(id, source)| {
            let change = source.asked.changed();
            let news = async move { News::Source(*id, change.await.map_err(|_| Over)) };
            news.boxed()
        });
        let guests = self.guests.iter_mut().map(|(id, guest)| {
            let change = guest.told.changed();
            let news = async move { News::Guest(*id, change.await.map_err(|_| Over)) };
            news.boxed()
        });
        let all: Vec<BoxFuture<'_, News>> = sources.chain(guests).collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        select_all(all).await.0
    }

    /// The room tells of somebody whom others have too.
    pub(super) fn tell(&mut self, id: ForwardId, forwarding: Forwarding) {
        let Some(source) = self.sources.get(&id) else {
            return;
        };
        match forwarding {
            Forwarding::As(reflection) => source.told.send_modify(|told| {
                told.reflection = reflection;
            }),
            Forwarding::Loud(level) => source.told.send_modify(|told| {
                told.level = level;
                told.levels += 1;
            }),
            Forwarding::Ended => drop(self.sources.remove(&id)),
        }
    }

    /// The room tells what it wants of a guest.
    pub(super) fn ask(&mut self, id: ForwardId, guesting: Guesting) {
        match guesting {
            Guesting::Asks(demands) => {
                if let Some(guest) = self.guests.get(&id) {
                    guest.asked.send_replace(demands);
                }
            }
            Guesting::Ended => drop(self.guests.remove(&id)),
        }
    }
}

/// The whole way of a call: the room that the participant is in gives an end, the other one takes it.
pub(super) async fn forward(
    hub: &Handle,
    request: ForwardParticipantRequest,
) -> Result<Answer, CallError> {
    let room = request.destination_room.clone();
    if room.is_empty() || room == request.room {
        let text = "destination room has to be another one than that of the participant";
        return Err(CallError::Invalid(text.to_owned()));
    }
    let guest = hub.forward(request).await?;
    // Whether there is a place is asked when it comes: it may be there already.
    let expect = Call::Expect {
        room: room.clone(),
        is_dependent: true,
    };
    hub.call(expect).await?;
    hub.welcome(room, guest).await
}

impl Actor {
    /// Begins to forward somebody.
    pub(super) fn forward(
        &mut self,
        request: &ForwardParticipantRequest,
        ways: &mut Ways,
    ) -> Result<Box<Guest>, CallError> {
        let (id, reflection) = self.room.forward(&request.identity)?;
        let known = Told {
            reflection,
            level: 0.0,
            levels: 0,
        };
        let (telling, told) = watch::channel(known.clone());
        let (asking, asked) = watch::channel(Demands::default());
        let source = Source {
            told: telling,
            asked,
        };
        ways.forwards.sources.insert(id, source);
        Ok(Box::new(Guest {
            id,
            told,
            asked: asking,
            known,
        }))
    }

    /// Takes a guest in.
    pub(super) fn welcome(
        &mut self,
        mut guest: Guest,
        ways: &mut Ways,
    ) -> Result<Answer, CallError> {
        guest.known = guest.told.borrow_and_update().clone();
        let reflection = Arc::clone(&guest.known.reflection);
        // Whoever is here already needs no second end.
        if self.room.welcome(self.now(), guest.id, &reflection)? {
            ways.forwards.guests.insert(guest.id, guest);
        }
        Ok(Answer::Done)
    }

    /// Hands news to the room.
    pub(super) fn handle_news(&mut self, news: News, ways: &mut Ways) {
        let now = self.now();
        match news {
            News::Source(id, Err(Over)) => {
                ways.forwards.sources.remove(&id);
                self.room.forward_ended(now, id);
            }
            News::Source(id, Ok(())) => {
                if let Some(source) = ways.forwards.sources.get_mut(&id) {
                    let asked = source.asked.borrow_and_update().clone();
                    self.room.forward_asks(now, id, &asked);
                }
            }
            News::Guest(id, Err(Over)) => {
                ways.forwards.guests.remove(&id);
                self.room.guest_left(now, id);
            }
            News::Guest(id, Ok(())) => {
                if let Some(guest) = ways.forwards.guests.get_mut(&id) {
                    let told = guest.told.borrow_and_update().clone();
                    let known = std::mem::replace(&mut guest.known, told.clone());
                    if !Arc::ptr_eq(&known.reflection, &told.reflection) {
                        self.room.guest_changed(now, id, &told.reflection);
                    }
                    if known.levels != told.levels {
                        self.room.guest_heard(now, id, told.level);
                    }
                }
            }
        }
    }
}
