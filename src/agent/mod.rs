//! Agents: programs that join rooms by themselves (livekit-agents), and the workers that run them.
//!
//! One task owns the [`registry`]: which workers there are, which agents each room wants, which job runs where. Rooms
//! tell it facts, workers' sessions hand it messages, the server API asks for dispatches. It tells workers what to do
//! through bounded queues and never waits for one of them, nor for a room. Followed are livekit 1.13.5
//! `pkg/agent` and `pkg/service/agentservice.go`; livekit.md 5.3 and 5.5.

mod job;
mod registry;
#[cfg(test)]
mod tests;
mod worker;

pub use registry::DispatchError;
pub use worker::LinkId;

use crate::clock::Clock;
use crate::config::Keys;
use crate::protocol::livekit::{
    AgentDispatch, CreateAgentDispatchRequest, DeleteAgentDispatchRequest,
    ListAgentDispatchRequest, ServerInfo, ServerMessage, WorkerMessage,
};
use crate::random::Random;
use crate::room::{Fact, Now};
use crate::task::Tasks;
use registry::{Output, Registry};
use std::collections::HashMap;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Facts, messages and questions that wait; whoever has one more waits with it.
const QUESTIONS: usize = 1024;
/// Messages that wait for a worker's socket; past this the worker is closed.
const MESSAGES: usize = 1024;
/// Workers connected at once.
const MAX_WORKERS: usize = 1024;

#[derive(Debug)]
enum Question {
    Fact(Box<Fact>),
    Connect {
        api_key: String,
        reply: oneshot::Sender<Option<(LinkId, mpsc::Receiver<Box<ServerMessage>>)>>,
    },
    Message {
        link: LinkId,
        message: Box<WorkerMessage>,
    },
    Gone {
        link: LinkId,
    },
    Create {
        request: Box<CreateAgentDispatchRequest>,
        reply: oneshot::Sender<Result<AgentDispatch, DispatchError>>,
    },
    Delete {
        request: DeleteAgentDispatchRequest,
        reply: oneshot::Sender<Result<AgentDispatch, DispatchError>>,
    },
    List {
        request: ListAgentDispatchRequest,
        reply: oneshot::Sender<Vec<AgentDispatch>>,
    },
}

/// A way to the keeper of agents; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
}

/// Starts the task. `server` is what workers are told of this server.
pub fn start(
    keys: Keys,
    server: ServerInfo,
    random: Random,
    tasks: &Tasks,
    clock: Clock,
) -> Handle {
    let (questions, receiver) = mpsc::channel(QUESTIONS);
    let keeper = Keeper {
        registry: Registry::new(keys, server, random),
        links: HashMap::new(),
        clock,
        tasks: tasks.clone(),
    };
    tasks.spawn("agents", keeper.run(receiver));
    Handle { questions }
}

impl Handle {
    /// A way to nobody.
    #[cfg(test)]
    pub fn of_nobody() -> Self {
        Self {
            questions: mpsc::channel(1).0,
        }
    }

    /// Tells what happened in a room.
    pub async fn tell(&self, fact: Box<Fact>) {
        // Nobody is left to be told at the end of the process.
        drop(self.questions.send(Question::Fact(fact)).await);
    }

    /// Lets a worker in, whose agents' tokens are signed with `api_key`. `None`: there are too many.
    pub async fn connect(&self, api_key: String) -> Option<Link> {
        let (reply, answer) = oneshot::channel();
        self.questions
            .send(Question::Connect { api_key, reply })
            .await
            .ok()?;
        let (id, messages) = answer.await.ok()??;
        Some(Link {
            id,
            messages,
            questions: self.questions.clone(),
        })
    }

    /// Sends an agent to a room that is there.
    pub async fn create_dispatch(
        &self,
        request: CreateAgentDispatchRequest,
    ) -> Result<AgentDispatch, DispatchError> {
        let request = Box::new(request);
        self.ask(|reply| Question::Create { request, reply })
            .await?
    }

    /// Calls an agent back.
    pub async fn delete_dispatch(
        &self,
        request: DeleteAgentDispatchRequest,
    ) -> Result<AgentDispatch, DispatchError> {
        self.ask(|reply| Question::Delete { request, reply })
            .await?
    }

    /// The agents of a room.
    pub async fn list_dispatches(
        &self,
        request: ListAgentDispatchRequest,
    ) -> Result<Vec<AgentDispatch>, DispatchError> {
        self.ask(|reply| Question::List { request, reply }).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, DispatchError> {
        let (reply, answer) = oneshot::channel();
        let stopping = DispatchError::Stopping;
        self.questions
            .send(question(reply))
            .await
            .map_err(|_| stopping)?;
        answer.await.map_err(|_| stopping)
    }
}

/// A worker's session's end of the line.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    messages: mpsc::Receiver<Box<ServerMessage>>,
    questions: mpsc::Sender<Question>,
}

/// What a session does with what its worker says.
#[derive(Debug, Clone)]
pub struct Up {
    id: LinkId,
    questions: mpsc::Sender<Question>,
}

impl Link {
    /// The next message to the worker; `None`: close.
    pub async fn next(&mut self) -> Option<Box<ServerMessage>> {
        self.messages.recv().await
    }

    /// The way for the worker's messages.
    pub fn up(&self) -> Up {
        Up {
            id: self.id,
            questions: self.questions.clone(),
        }
    }
}

impl Up {
    /// Hands on what the worker says; waits while the keeper is busy.
    pub async fn send(&self, message: WorkerMessage) {
        let question = Question::Message {
            link: self.id,
            message: Box::new(message),
        };
        // Without a keeper the process is ending.
        drop(self.questions.send(question).await);
    }

    /// Says that the worker's WebSocket is gone.
    pub async fn gone(self) {
        drop(self.questions.send(Question::Gone { link: self.id }).await);
    }
}

/// Everything that the task owns.
struct Keeper {
    registry: Registry,
    links: HashMap<LinkId, mpsc::Sender<Box<ServerMessage>>>,
    clock: Clock,
    tasks: Tasks,
}

impl Keeper {
    async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        loop {
            let due = self.registry.next_timeout();
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.handle(question),
                    None => return,
                },
                () = sleep_until(due) => self.registry.handle_timeout(self.now()),
                () = self.tasks.cancelled() => return,
            }
            self.carry_out();
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.clock.now(),
            unix_us: self.clock.unix_us(),
        }
    }

    fn handle(&mut self, question: Question) {
        let now = self.now();
        // An asker that is gone needs no answer.
        match question {
            Question::Fact(fact) => self.registry.handle_fact(now, *fact),
            Question::Message { link, message } => {
                self.registry.handle_message(now, link, *message);
            }
            Question::Connect { api_key, reply } => {
                if self.links.len() >= MAX_WORKERS {
                    return drop(reply.send(None));
                }
                let link = self.registry.connect(now, api_key);
                let (sender, receiver) = mpsc::channel(MESSAGES);
                self.links.insert(link, sender);
                if reply.send(Some((link, receiver))).is_err() {
                    self.gone(link);
                }
            }
            Question::Gone { link } => self.gone(link),
            Question::Create { request, reply } => {
                drop(reply.send(self.registry.create_dispatch(now, *request)));
            }
            Question::Delete { request, reply } => {
                let DeleteAgentDispatchRequest { dispatch_id, room } = request;
                drop(reply.send(self.registry.delete_dispatch(now, &room, &dispatch_id)));
            }
            Question::List { request, reply } => {
                let ListAgentDispatchRequest { dispatch_id, room } = request;
                drop(reply.send(self.registry.list_dispatches(&room, &dispatch_id)));
            }
        }
    }

    fn gone(&mut self, link: LinkId) {
        if self.links.remove(&link).is_some() {
            self.registry.disconnect(self.now(), link);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.registry.poll() {
            match output {
                Output::Send(link, message) => {
                    let sent = self.links.get(&link).map(|link| link.try_send(message));
                    if let Some(Err(_)) = sent {
                        // It reads nothing; its session ends with the queue.
                        self.gone(link);
                    }
                }
                Output::Close(link) => self.gone(link),
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
