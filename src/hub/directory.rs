//! Names of rooms and the way to each room's task.

use super::actor::{ASKS, Actor, Ask, Calls, Listed};
use super::counters::{Counted, Counters, Tracks};
use super::forwarding::{self, Guest};
use super::moving::{self, Immigrant};
use super::revoked::{self, Revoked};
use super::{Answer, Call, CallError, JoinError, Session};
use crate::agent;
use crate::clock::Clock;
use crate::config::Config;
use crate::ids::RoomName;
use crate::net;
use crate::protocol::join::Join;
use crate::protocol::livekit::{
    self as proto, ForwardParticipantRequest, MoveParticipantRequest, RoomConfiguration,
};
use crate::random::Random;
use crate::room::{self, Census, Now, Room, SessionId, Settings, WEBHOOK_TAG};
use crate::task::Tasks;
use crate::webhook;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Questions to the directory that wait; sessions wait with theirs.
const QUESTIONS: usize = 256;
/// For the numbers of all rooms.
const CENSUS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Question {
    Join {
        join: Box<Join>,
        reply: oneshot::Sender<Result<Session, JoinError>>,
    },
    Check {
        join: Box<Join>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    Call {
        call: Box<Call>,
        reply: oneshot::Sender<Result<Answer, CallError>>,
    },
    List {
        names: Vec<String>,
        reply: oneshot::Sender<Result<Vec<Arc<proto::Room>>, CallError>>,
    },
    /// Somebody is to be in another room too.
    Forward {
        request: ForwardParticipantRequest,
        reply: oneshot::Sender<Result<Box<Guest>, CallError>>,
    },
    /// Somebody of another room is to be in this one too.
    Welcome {
        room: String,
        guest: Box<Guest>,
        reply: oneshot::Sender<Result<Answer, CallError>>,
    },
    /// Somebody is to leave a room for another.
    Emigrate {
        request: MoveParticipantRequest,
        reply: oneshot::Sender<Result<Option<Box<Immigrant>>, CallError>>,
    },
    /// Somebody comes from another room.
    Immigrate {
        room: String,
        immigrant: Box<Immigrant>,
        reply: oneshot::Sender<()>,
    },
    /// A room's task is over; what had been asked of it meanwhile comes back.
    Ended {
        name: RoomName,
        number: u32,
        unanswered: Vec<Ask>,
    },
    /// The ways to all rooms.
    Rooms {
        reply: oneshot::Sender<Vec<mpsc::Sender<Ask>>>,
    },
    ShutDown {
        done: oneshot::Sender<()>,
    },
}

/// A way to reach the hub; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    agents: agent::Handle,
    counters: Arc<Counters>,
    node_id: Arc<str>,
}

/// A room's way back to the directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    questions: mpsc::Sender<Question>,
    number: u32,
}

/// Starts the directory's task.
pub fn start(
    config: &Config,
    net: net::Handle,
    webhooks: webhook::Handle,
    mut random: Random,
    tasks: &Tasks,
    clock: Clock,
) -> Handle {
    let (questions, receiver) = mpsc::channel(QUESTIONS);
    let settings = Settings {
        defaults: config.room.clone(),
        limits: config.limits.clone(),
        keys: config.keys.clone(),
        fingerprint: net.fingerprint(),
        lite: config.rtc.use_ice_lite,
        ice_servers: config.rtc.ice_servers.clone(),
        node_id: format!("ND_{}", random.text(12)),
    };
    let server = room::server_info(&settings.node_id);
    let keys = config.keys.clone();
    let agents = agent::start(keys, server, own_random(&mut random), tasks, clock);
    let counters = Arc::new(Counters::default());
    let node_id = settings.node_id.as_str().into();
    let hub = Hub {
        counters: Arc::clone(&counters),
        settings,
        net,
        webhooks,
        agents: agents.clone(),
        random,
        tasks: tasks.clone(),
        clock,
        questions: questions.clone(),
        rooms: HashMap::new(),
        revoked: Revoked::default(),
        last_room: 0,
        last_session: 0,
        stopping: false,
    };
    tasks.spawn("hub", hub.run(receiver));
    Handle {
        questions,
        agents,
        counters,
        node_id,
    }
}

impl Handle {
    /// Joins or resumes. The room is created if that is allowed.
    pub async fn join(&self, join: Join) -> Result<Session, JoinError> {
        let join = Box::new(join);
        self.ask(|reply| Question::Join { join, reply }).await
    }

    /// A way to a hub that is gone: every join is answered by [`JoinError::Stopping`].
    #[cfg(test)]
    pub fn of_no_hub() -> Self {
        Self {
            questions: mpsc::channel(1).0,
            agents: agent::Handle::of_nobody(),
            counters: Arc::default(),
            node_id: "".into(),
        }
    }

    /// What `join` would say of room and limits, without joining (`/rtc/validate`).
    pub async fn check(&self, join: &Join) -> Result<(), JoinError> {
        let join = Box::new(join.clone());
        self.ask(|reply| Question::Check { join, reply }).await
    }

    /// Does what an application's server asks of one room.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(call);
        self.questions
            .send(Question::Call { call, reply })
            .await
            .map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?
    }

    pub(super) async fn forward(
        &self,
        request: ForwardParticipantRequest,
    ) -> Result<Box<Guest>, CallError> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Forward { request, reply };
        let sent = self.questions.send(question).await;
        sent.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?
    }

    pub(super) async fn welcome(
        &self,
        room: String,
        guest: Box<Guest>,
    ) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Welcome { room, guest, reply };
        let sent = self.questions.send(question).await;
        sent.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?
    }

    pub(super) async fn emigrate(
        &self,
        request: MoveParticipantRequest,
    ) -> Result<Option<Box<Immigrant>>, CallError> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Emigrate { request, reply };
        let sent = self.questions.send(question).await;
        sent.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?
    }

    pub(super) async fn immigrate(
        &self,
        room: String,
        immigrant: Box<Immigrant>,
    ) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Immigrate {
            room,
            immigrant,
            reply,
        };
        let sent = self.questions.send(question).await;
        sent.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)
    }

    /// The rooms of these names, or all when there are none, in the order of their creation.
    pub async fn list(&self, names: Vec<String>) -> Result<Vec<Arc<proto::Room>>, CallError> {
        let (reply, answer) = oneshot::channel();
        self.questions
            .send(Question::List { names, reply })
            .await
            .map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?
    }

    /// Lets nobody in any more and tells everybody to come back later. Returns when all have been told.
    pub async fn shut_down(&self) {
        let (done, told) = oneshot::channel();
        if self
            .questions
            .send(Question::ShutDown { done })
            .await
            .is_ok()
        {
            // An error means that the hub is gone already, and all rooms with it.
            drop(told.await);
        }
    }

    /// What all rooms hold right now; a room that does not answer within a second is left out.
    pub async fn census(&self) -> Census {
        let (reply, rooms) = oneshot::channel();
        let mut census = Census::default();
        if self
            .questions
            .send(Question::Rooms { reply })
            .await
            .is_err()
        {
            return census;
        }
        let mut answers = Vec::new();
        for room in rooms.await.unwrap_or_default() {
            let (reply, answer) = oneshot::channel();
            // A full queue is that of a room without time for numbers.
            if room.try_send(Ask::Census { reply }).is_ok() {
                answers.push(answer);
            }
        }
        let all = async {
            for answer in answers {
                // An error is the answer of a room that has ended meanwhile.
                if let Ok(room) = answer.await {
                    census.add(&room);
                }
            }
        };
        // Late rooms are left out.
        tokio::time::timeout(CENSUS_TIMEOUT, all).await.ok();
        census
    }

    /// What has happened in all rooms since the start.
    pub fn counted(&self) -> Counted {
        self.counters.read()
    }

    /// The way to the keeper of agents.
    pub fn agents(&self) -> &agent::Handle {
        &self.agents
    }

    /// `ND_…` of this process.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, JoinError>>) -> Question,
    ) -> Result<T, JoinError> {
        let (reply, answer) = oneshot::channel();
        self.questions
            .send(question(reply))
            .await
            .map_err(|_| JoinError::Stopping)?;
        answer.await.map_err(|_| JoinError::Stopping)?
    }
}

impl Directory {
    /// Says that the room is over and hands back what is still asked of it.
    pub(super) async fn ended(&self, name: RoomName, asks: &mut mpsc::Receiver<Ask>) {
        asks.close();
        let mut unanswered = Vec::new();
        while let Some(ask) = asks.recv().await {
            // To end is what this room does; the directory waits for the word that it was heard, and not for questions.
            if !matches!(ask, Ask::ShutDown { .. }) {
                unanswered.push(ask);
            }
        }
        let question = Question::Ended {
            name,
            number: self.number,
            unanswered,
        };
        // Without a directory there is nobody left to be told.
        drop(self.questions.send(question).await);
    }
}

struct Entry {
    number: u32,
    asks: mpsc::Sender<Ask>,
    listed: watch::Receiver<Arc<proto::Room>>,
}

/// The directory's task: owns the names and what outlives a room.
struct Hub {
    counters: Arc<Counters>,
    settings: Settings,
    net: net::Handle,
    webhooks: webhook::Handle,
    agents: agent::Handle,
    random: Random,
    tasks: Tasks,
    clock: Clock,
    questions: mpsc::Sender<Question>,
    rooms: HashMap<RoomName, Entry>,
    revoked: Revoked,
    last_room: u32,
    last_session: u64,
    stopping: bool,
}

impl Hub {
    async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        loop {
            let question = tokio::select! {
                question = questions.recv() => question,
                () = self.tasks.cancelled() => None,
            };
            match question {
                None => return,
                Some(Question::Join { join, reply }) => {
                    self.last_session += 1;
                    let session = SessionId(self.last_session);
                    self.dispatch(Ask::Join {
                        join,
                        session,
                        reply,
                    })
                    .await;
                }
                Some(Question::Check { join, reply }) => {
                    self.dispatch(Ask::Check { join, reply }).await;
                }
                Some(Question::Forward { request, reply }) => {
                    self.dispatch(Ask::Forward { request, reply }).await;
                }
                Some(Question::Welcome { room, guest, reply }) => {
                    self.dispatch(Ask::Welcome { room, guest, reply }).await;
                }
                Some(Question::Emigrate { request, reply }) => {
                    self.dispatch(Ask::Emigrate { request, reply }).await;
                }
                Some(Question::Immigrate {
                    room,
                    immigrant,
                    reply,
                }) => {
                    self.dispatch(Ask::Immigrate {
                        room,
                        immigrant,
                        reply,
                    })
                    .await;
                }
                Some(Question::Call { call, reply }) => match *call {
                    Call::ForwardParticipant(request) => self
                        .between_rooms(reply, |hub| async move {
                            forwarding::forward(&hub, request).await
                        }),
                    Call::MoveParticipant(request) => self.between_rooms(reply, |hub| async move {
                        moving::carry_over(&hub, request).await
                    }),
                    call => {
                        self.revoke(&call);
                        let call = Box::new(call);
                        self.dispatch(Ask::Call { call, reply }).await;
                    }
                },
                Some(Question::List { names, reply }) => {
                    // A caller who has gone away needs no answer.
                    drop(reply.send(Ok(self.list(&names))));
                }
                Some(Question::Ended {
                    name,
                    number,
                    unanswered,
                }) => {
                    if self
                        .rooms
                        .get(&name)
                        .is_some_and(|entry| entry.number == number)
                    {
                        self.rooms.remove(&name);
                    }
                    for ask in unanswered {
                        self.dispatch(ask).await;
                    }
                }
                Some(Question::Rooms { reply }) => {
                    let rooms = self.rooms.values().map(|entry| entry.asks.clone());
                    // An asker that is gone needs no answer.
                    drop(reply.send(rooms.collect()));
                }
                Some(Question::ShutDown { done }) => {
                    self.shut_down().await;
                    done.send(()).ok();
                }
            }
        }
    }

    /// To the room's task; a join makes the room if that is allowed, a check says whether it would.
    async fn dispatch(&mut self, ask: Ask) {
        if self.stopping {
            return refuse(ask, JoinError::Stopping);
        }
        let name = match &ask {
            Ask::Join { join, .. } | Ask::Check { join, .. } => {
                let name = room_of(join);
                let claims = &join.claims;
                if self
                    .revoked
                    .refuses(&name, &claims.sub, claims.issued(), claims.exp)
                {
                    return refuse(ask, JoinError::TokenRevoked);
                }
                let limit = u64::from(self.settings.limits.num_tracks);
                // Who resumes has its tracks already.
                if limit > 0 && join.resume.is_none() && self.counters.tracks() >= limit {
                    return refuse(ask, JoinError::NodeFull("tracks"));
                }
                name
            }
            Ask::Call { call, .. } => RoomName::from(call.room()),
            Ask::Forward { request, .. } => RoomName::from(request.room.as_str()),
            Ask::Emigrate { request, .. } => RoomName::from(request.room.as_str()),
            Ask::Immigrate { room, .. } | Ask::Welcome { room, .. } => {
                RoomName::from(room.as_str())
            }
            Ask::Census { .. } | Ask::ShutDown { .. } => return,
        };
        if let Some(entry) = self.rooms.get(&name) {
            // A full queue makes everybody wait for this room's task, which never waits for the hub.
            match entry.asks.send(ask).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => {
                    self.rooms.remove(&name);
                    return Box::pin(self.dispatch(back)).await;
                }
            }
        }
        if let Ask::Forward { reply, .. } = ask {
            return drop(reply.send(Err(CallError::ParticipantNotFound)));
        }
        if let Ask::Welcome { reply, .. } = ask {
            // It was there a moment ago.
            return drop(reply.send(Err(CallError::RoomNotFound)));
        }
        if let Ask::Emigrate { reply, .. } = ask {
            return drop(reply.send(Err(CallError::ParticipantNotFound)));
        }
        if let Ask::Immigrate { .. } = ask {
            // It was there a moment ago.
            return self.create(name, Vec::new(), ask).await;
        }
        if let Ask::Call { call, reply } = ask {
            return match self.for_call(&call) {
                Ok(configurations) => {
                    let ask = Ask::Call { call, reply };
                    self.create(name, configurations, ask).await;
                }
                // A caller who has gone away needs no answer.
                Err(answer) => drop(reply.send(*answer)),
            };
        }
        match self.may_create(&ask) {
            Err(error) => refuse(ask, error),
            Ok(configurations) => match ask {
                Ask::Check { reply, .. } => reply.send(Ok(())).map_or((), |()| ()),
                ask => self.create(name, configurations, ask).await,
            },
        }
    }

    /// What a call makes its room of, or its answer when it makes none.
    fn for_call(
        &self,
        call: &Call,
    ) -> Result<Vec<RoomConfiguration>, Box<Result<Answer, CallError>>> {
        let request = match call {
            Call::CreateRoom(request) => request,
            Call::Expect { .. } if self.settings.defaults.auto_create => return Ok(Vec::new()),
            _ => {
                let checked = call.check(&self.settings.limits);
                return Err(Box::new(checked.and_then(|()| call.without_room())));
            }
        };
        let own = room::configuration_of(&self.settings.limits, request)
            .map_err(|error| Box::new(Err(error)))?;
        if request.tags.contains_key(WEBHOOK_TAG) && !self.webhooks.is_on() {
            let text = "webhook_urls: set webhook.api_key, by which they are signed";
            return Err(Box::new(Err(CallError::Invalid(text.to_owned()))));
        }
        let preset = self.preset(&request.room_preset).map_err(|error| {
            let text = error.to_string();
            Box::new(Err(CallError::Invalid(text)))
        })?;
        // The request's own words win over its preset's.
        Ok(preset.into_iter().chain([own]).collect())
    }

    /// The configuration of a name; `None` for no name, or for one that cannot be read as a configuration.
    fn preset(&self, name: &str) -> Result<Option<RoomConfiguration>, JoinError> {
        if name.is_empty() {
            return Ok(None);
        }
        let known = self.settings.defaults.presets.get(name);
        let value = known.ok_or_else(|| JoinError::UnknownPreset(name.to_owned()))?;
        Ok(serde_json::from_value(value.clone()).ok())
    }

    /// Does what concerns two rooms: a task of its own, because rooms never wait for the directory.
    fn between_rooms<F>(
        &self,
        reply: oneshot::Sender<Result<Answer, CallError>>,
        work: impl FnOnce(Handle) -> F,
    ) where
        F: Future<Output = Result<Answer, CallError>> + Send + 'static,
    {
        let hub = Handle {
            questions: self.questions.clone(),
            agents: self.agents.clone(),
            counters: Arc::clone(&self.counters),
            node_id: self.settings.node_id.as_str().into(),
        };
        let work = work(hub);
        self.tasks.spawn("between rooms", async move {
            // A caller who has gone away needs no answer.
            drop(reply.send(work.await));
        });
    }

    /// Takes note of tokens that a removal makes void, whether or not their bearer is there.
    fn revoke(&mut self, call: &Call) {
        let Call::RemoveParticipant(request) = call else {
            return;
        };
        if let Ok(before @ 1..) = u64::try_from(request.revoke_token_ts) {
            let now = self.clock.unix_seconds();
            let before = revoked::seconds(before);
            self.revoked
                .insert(now, &request.room, &request.identity, before);
        }
    }

    fn list(&self, names: &[String]) -> Vec<Arc<proto::Room>> {
        let mut found: Vec<&Entry> = if names.is_empty() {
            self.rooms.values().collect()
        } else {
            let named = names.iter();
            named
                .filter_map(|name| self.rooms.get(name.as_str()))
                .collect()
        };
        found.sort_by_key(|entry| entry.number);
        found.dedup_by_key(|entry| entry.number);
        found
            .into_iter()
            // A room whose task is over is no room, though it has not said so yet.
            .filter(|entry| !entry.asks.is_closed())
            .map(|entry| Arc::clone(&entry.listed.borrow()))
            .collect()
    }

    /// What a join makes its room of.
    fn may_create(&self, ask: &Ask) -> Result<Vec<RoomConfiguration>, JoinError> {
        let (Ask::Join { join, .. } | Ask::Check { join, .. }) = ask else {
            return Ok(Vec::new());
        };
        let grant = join.claims.video.as_ref();
        if !self.settings.defaults.auto_create && !grant.is_some_and(|grant| grant.room_create) {
            return Err(JoinError::RoomNotFound);
        }
        let preset = self.preset(&join.claims.room_preset)?;
        // A token whose own configuration cannot be read was refused before it came here.
        let own = join.claims.room_configuration().unwrap_or_default();
        // The token's own words win over its preset's.
        Ok(preset.into_iter().chain(own).collect())
    }

    async fn create(&mut self, name: RoomName, configurations: Vec<RoomConfiguration>, ask: Ask) {
        self.last_room += 1;
        let number = self.last_room;
        let now = Now {
            at: self.clock.now(),
            unix_us: self.clock.unix_us(),
        };
        let random = own_random(&mut self.random);
        let mut room = Room::new(now, name.as_str(), number, self.settings.clone(), random);
        for configuration in configurations {
            room.configure(now, &configuration);
        }
        let (asks, receiver) = mpsc::channel(ASKS);
        let directory = Directory {
            questions: self.questions.clone(),
            number,
        };
        let (own, listed) = Listed::new(&room);
        let actor = Actor {
            name: name.clone(),
            room,
            net: self.net.clone(),
            webhooks: self.webhooks.clone(),
            agents: self.agents.clone(),
            counters: Arc::clone(&self.counters),
            tracks: Tracks::new(&self.counters),
            directory,
            asks: receiver,
            clock: self.clock,
            listed: own,
            calls: Calls::default(),
        };
        self.tasks.spawn("room", actor.run());
        // The queue is new and its reader lives.
        drop(asks.send(ask).await);
        let entry = Entry {
            number,
            asks,
            listed,
        };
        self.rooms.insert(name, entry);
    }

    async fn shut_down(&mut self) {
        self.stopping = true;
        let mut waiting = Vec::new();
        for (_, entry) in self.rooms.drain() {
            let (done, told) = oneshot::channel();
            if entry.asks.send(Ask::ShutDown { done }).await.is_ok() {
                waiting.push(told);
            }
        }
        for told in waiting {
            // A room that ended by itself meanwhile has told everybody too.
            drop(told.await);
        }
    }
}

/// A generator for somebody else; repeatable where ours is.
fn own_random(random: &mut Random) -> Random {
    match random {
        Random::System(_) => Random::system(),
        seeded @ Random::Seeded(_) => Random::seeded(seeded.u64()),
    }
}

fn room_of(join: &Join) -> RoomName {
    let grant = join.claims.video.as_ref();
    RoomName::from(grant.map_or("", |grant| grant.room.as_str()))
}

fn refuse(ask: Ask, error: JoinError) {
    match ask {
        // An asker who has gone away needs no answer.
        Ask::Join { reply, .. } => drop(reply.send(Err(error))),
        Ask::Check { reply, .. } => drop(reply.send(Err(error))),
        // Whoever comes from another room is dropped, and its transports with it.
        Ask::Census { .. } | Ask::Immigrate { .. } => {}
        Ask::Forward { reply, .. } => drop(reply.send(Err(CallError::Stopping))),
        Ask::Emigrate { reply, .. } => drop(reply.send(Err(CallError::Stopping))),
        // Calls are refused for one reason only.
        Ask::Call { reply, .. } | Ask::Welcome { reply, .. } => {
            drop(reply.send(Err(CallError::Stopping)));
        }
        Ask::ShutDown { done } => {
            done.send(()).ok();
        }
    }
}
