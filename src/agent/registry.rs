//! Workers, dispatches and jobs: who is asked for what, and what becomes of it. Pure: time is an argument.
//!
//! A dispatch says which agent a room wants. For each dispatch and each purpose (the room; a participant; a publisher)
//! there is one job as soon as a worker of that skill is registered, so a worker that comes later serves rooms that
//! are there already. livekit-server gives a job up when no worker takes it, or when its worker vanishes; here it
//! waits, and goes to another one.

#![expect(
    deprecated,
    reason = "older workers name a namespace, and livekit-server serves each"
)]

use super::job::{Job, Phase, nanos};
use super::worker::{LinkId, Skill, Worker, choose};
use crate::config::Keys;
use crate::protocol::livekit::{
    self as proto, AgentDispatch, AgentDispatchState, AvailabilityRequest, AvailabilityResponse,
    CreateAgentDispatchRequest, JobAssignment, JobRestartPolicy, JobStatus, JobTermination,
    JobType, ParticipantInfo, RegisterWorkerRequest, RegisterWorkerResponse, RoomAgentDispatch,
    ServerInfo, ServerMessage, SimulateJobRequest, WorkerMessage, server_message, worker_message,
};
use crate::random::Random;
use crate::room::{Fact, Now};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// For the first message of a worker (livekit 1.13.5).
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a worker's answer whether it takes a job (livekit 1.13.5).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker whose connection broke comes back within this time, or its jobs go to others.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// Workers that did not answer are asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The first pause after a job that failed; each further failure doubles it.
const RESTART: Duration = Duration::from_secs(1);
/// A job that ran so long has worked; its failure is the first of its purpose.
const STABLE: Duration = Duration::from_secs(60);
/// Jobs of one purpose that may fail before it is given up.
const MAX_FAILURES: u32 = 3;
/// Dispatches of one room.
const MAX_DISPATCHES: usize = 64;
/// Namespaces of which one dispatch asks for agents.
const MAX_NAMESPACES: usize = 16;
/// Jobs of one dispatch that are over and still listed.
const MAX_ENDED: usize = 16;

/// What the owner has to do.
#[derive(Debug, PartialEq)]
pub(super) enum Output {
    /// Send a message to a worker.
    Send(LinkId, Box<ServerMessage>),
    /// Close a worker's connection.
    Close(LinkId),
}

/// Why a dispatch is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// There is no room of that name.
    #[error("requested room does not exist")]
    RoomNotFound,
    /// There is no dispatch of that id.
    #[error("agent dispatch does not exist")]
    NotFound,
    /// So many are not kept.
    #[error("too many agent dispatches")]
    TooMany,
    /// The server is stopping.
    #[error("server is shutting down")]
    Stopping,
}

/// Which workers a job is for, by their namespace, and whom: nobody, or one stay of a participant.
type Purpose = (JobType, String, String);

#[derive(Debug)]
struct Dispatch {
    /// Without its jobs.
    record: AgentDispatch,
    /// Purposes that have had their job.
    served: HashSet<Purpose>,
}

#[derive(Debug)]
struct Person {
    info: ParticipantInfo,
    publishes: bool,
    dependent: bool,
}

#[derive(Debug, Default)]
struct Room {
    info: proto::Room,
    dispatches: Vec<Dispatch>,
    /// By SID.
    people: BTreeMap<String, Person>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Registry {
    keys: Keys,
    server: ServerInfo,
    random: Random,
    workers: BTreeMap<LinkId, Worker>,
    rooms: HashMap<String, Room>,
    /// By id.
    jobs: BTreeMap<String, Job>,
    outputs: VecDeque<Output>,
    last_link: u64,
}

impl Registry {
    pub(super) fn new(keys: Keys, server: ServerInfo, random: Random) -> Self {
        Self {
            keys,
            server,
            random,
            workers: BTreeMap::new(),
            rooms: HashMap::new(),
            jobs: BTreeMap::new(),
            outputs: VecDeque::new(),
            last_link: 0,
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    #[cfg(test)]
    pub(super) fn jobs_kept(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let registering = self.workers.values().filter(|w| w.skill.is_none());
        registering
            .map(|worker| worker.register_by)
            .chain(self.jobs.values().filter_map(Job::deadline))
            .min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        let late: Vec<LinkId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.skill.is_none() && worker.register_by <= now.at)
            .map(|(link, _)| *link)
            .collect();
        for link in late {
            self.workers.remove(&link);
            self.outputs.push_back(Output::Close(link));
        }
        let due: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.deadline().is_some_and(|at| at <= now.at))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            match job.phase {
                Phase::Asked { link, .. } => {
                    job.silent.insert(link);
                    self.look_for_worker(now, &id);
                }
                Phase::Waiting { .. } => {
                    job.silent.clear();
                    self.look_for_worker(now, &id);
                }
                Phase::Orphaned { .. } => self.replace_orphan(now, &id),
                Phase::Running { .. } | Phase::Ended => {}
            }
        }
    }

    /// A worker's WebSocket is there.
    pub(super) fn connect(&mut self, now: Now, api_key: String) -> LinkId {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        let id = format!("AW_{}", self.random.text(12));
        let worker = Worker::new(id, api_key, now.at + REGISTER_TIMEOUT);
        self.workers.insert(link, worker);
        link
    }

    /// A worker's WebSocket is gone: what it was asked goes to others at once, what it runs after a while.
    pub(super) fn disconnect(&mut self, now: Now, link: LinkId) {
        self.workers.remove(&link);
        let concerned: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.link() == Some(link))
            .map(|(id, _)| id.clone())
            .collect();
        for id in concerned {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            if let Phase::Running { .. } = job.phase {
                let at = Some(now.at + ORPHAN_GRACE);
                job.phase = Phase::Orphaned { at };
            } else {
                self.look_for_worker(now, &id);
            }
        }
    }

    pub(super) fn handle_message(&mut self, now: Now, link: LinkId, message: WorkerMessage) {
        let Some(worker) = self.workers.get_mut(&link) else {
            return;
        };
        let Some(message) = message.message else {
            return;
        };
        match message {
            worker_message::Message::Register(request) => self.register(now, link, request),
            // Nothing else counts before.
            _ if worker.skill.is_none() => {}
            worker_message::Message::Availability(answer) => self.answered(now, link, answer),
            worker_message::Message::UpdateWorker(status) => {
                if worker.update(&status) {
                    self.look_for_workers(now);
                }
            }
            worker_message::Message::UpdateJob(update) => {
                let status = update.status();
                self.reported(now, link, &update.job_id, status, &update.error);
            }
            worker_message::Message::SimulateJob(request) => self.simulate(now, link, request),
            worker_message::Message::MigrateJob(request) => {
                for id in request.job_ids {
                    if let Some(job) = self.jobs.get_mut(&id)
                        && let Phase::Orphaned { .. } = job.phase
                    {
                        job.phase = Phase::Running { link };
                    }
                }
            }
            // The session answers pings.
            worker_message::Message::Ping(_) => {}
        }
    }

    fn register(&mut self, now: Now, link: LinkId, request: RegisterWorkerRequest) {
        let Some(worker) = self.workers.get_mut(&link) else {
            return;
        };
        if worker.skill.is_some() {
            return;
        }
        if !worker.register(request) {
            self.workers.remove(&link);
            self.outputs.push_back(Output::Close(link));
            return;
        }
        let agent = worker.skill.as_ref().map_or("", |skill| &skill.agent_name);
        tracing::info!(worker = worker.id, agent, "agent worker registered");
        let response = RegisterWorkerResponse {
            worker_id: worker.id.clone(),
            server_info: Some(self.server.clone()),
            ..Default::default()
        };
        self.send(link, server_message::Message::Register(response));
        let names: Vec<String> = self.rooms.keys().cloned().collect();
        for name in names {
            self.make_jobs(now, &name);
        }
        self.look_for_workers(now);
    }

    fn answered(&mut self, now: Now, link: LinkId, answer: AvailabilityResponse) {
        let id = answer.job_id.clone();
        let (Some(job), Some(worker)) = (self.jobs.get_mut(&id), self.workers.get(&link)) else {
            return;
        };
        // An answer that comes too late is none: somebody else was asked.
        if !matches!(job.phase, Phase::Asked { link: asked, .. } if asked == link) {
            return;
        }
        if answer.terminate {
            job.set_status(now, JobStatus::JsSuccess, "");
            return self.trim(&id);
        }
        if !answer.available {
            job.refused.insert(link);
            return self.look_for_worker(now, &id);
        }
        let Some(token) = job.accept(now, link, worker, answer, &self.keys) else {
            job.set_status(now, JobStatus::JsFailed, "the worker's API key is unknown");
            return self.trim(&id);
        };
        let assignment = JobAssignment {
            job: Some(job.record.clone()),
            url: None,
            token,
        };
        tracing::info!(
            job = id,
            room = job.room(),
            worker = worker.id,
            "agent job assigned"
        );
        self.send(link, server_message::Message::Assignment(assignment));
    }

    fn reported(&mut self, now: Now, link: LinkId, id: &str, status: JobStatus, error: &str) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match job.phase {
            Phase::Running { link: of } if of == link => {}
            // The worker is back, with the reports that it kept meanwhile.
            Phase::Orphaned { .. } => job.phase = Phase::Running { link },
            _ => return,
        }
        job.set_status(now, status, error);
        if status == JobStatus::JsFailed {
            tracing::warn!(job = id, room = job.room(), error, "agent job failed");
            self.restart(now, id);
        }
        self.trim(id);
    }

    /// Has a job that failed done by another one, unless its dispatch wants otherwise.
    fn restart(&mut self, now: Now, id: &str) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        // What has worked for a while may fail as often again.
        let state = job.record.state.as_ref();
        let ran = state.map_or(0, |state| state.ended_at - state.started_at);
        let failures = if ran < i64::try_from(STABLE.as_nanos()).unwrap_or(i64::MAX) {
            job.failures + 1
        } else {
            1
        };
        let record = proto::Job {
            id: String::new(),
            state: None,
            ..job.record.clone()
        };
        // What has no dispatch was a worker's simulation.
        let is_wanted = !record.dispatch_id.is_empty()
            && job.policy == JobRestartPolicy::JrpOnFailure
            && failures <= MAX_FAILURES;
        if is_wanted {
            let policy = job.policy;
            let pause = RESTART * 2_u32.pow(failures - 1);
            let id = self.add_job(record, policy, failures);
            if let Some(job) = self.jobs.get_mut(&id) {
                let at = Some(now.at + pause);
                job.phase = Phase::Waiting { at };
            }
        }
    }

    fn replace_orphan(&mut self, now: Now, id: &str) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let identity = job.state().participant_identity.clone();
        let room = self.rooms.get(job.room());
        let is_there =
            room.is_some_and(|room| room.people.values().any(|p| p.info.identity == identity));
        if is_there {
            // It goes on without its worker. When it leaves, somebody else takes over.
            job.phase = Phase::Orphaned { at: None };
            return;
        }
        job.set_status(now, JobStatus::JsFailed, "the worker is gone");
        self.restart(now, id);
        self.trim(id);
    }

    fn simulate(&mut self, now: Now, link: LinkId, request: SimulateJobRequest) {
        let Some(skill) = self.workers.get(&link).and_then(|w| w.skill.clone()) else {
            return;
        };
        let kind = if request.participant.is_some() {
            JobType::JtPublisher
        } else {
            JobType::JtRoom
        };
        let record = proto::Job {
            r#type: kind as i32,
            room: request.room,
            participant: request.participant,
            agent_name: skill.agent_name,
            namespace: skill.namespace,
            ..Default::default()
        };
        let id = self.add_job(record, JobRestartPolicy::JrpNever, 0);
        self.ask(now, &id, link);
    }

    /// What happened in a room.
    pub(super) fn handle_fact(&mut self, now: Now, fact: Fact) {
        match fact {
            Fact::Started { room, agents } => self.room_started(now, room, agents),
            Fact::Changed { room } => {
                if let Some(known) = self.rooms.get_mut(&room.name) {
                    known.info = room;
                }
            }
            Fact::Joined {
                room,
                participant,
                dependent,
            } => {
                let Some(known) = self.rooms.get_mut(&room) else {
                    return;
                };
                let person = Person {
                    info: participant,
                    publishes: false,
                    dependent,
                };
                known.people.insert(person.info.sid.clone(), person);
                self.make_jobs(now, &room);
            }
            Fact::Published { room, participant } => {
                let person = self
                    .rooms
                    .get_mut(&room)
                    .and_then(|room| room.people.get_mut(&participant.sid));
                if let Some(person) = person
                    && !std::mem::replace(&mut person.publishes, true)
                {
                    person.info = participant;
                    self.make_jobs(now, &room);
                }
            }
            Fact::Left {
                room,
                sid,
                identity,
            } => self.left(now, &room, &sid, &identity),
            Fact::Finished { room } => {
                if self.rooms.remove(&room).is_some() {
                    self.end_jobs(now, |job| job.room() == room);
                    self.jobs.retain(|_, job| job.room() != room);
                }
            }
        }
    }

    fn room_started(&mut self, now: Now, info: proto::Room, agents: Vec<RoomAgentDispatch>) {
        let name = info.name.clone();
        let room = Room {
            info,
            ..Room::default()
        };
        self.rooms.insert(name.clone(), room);
        // A room that names nobody is served by agents without a name.
        let wanted = if agents.is_empty() {
            vec![RoomAgentDispatch::default()]
        } else {
            agents
        };
        for agent in wanted {
            let request = CreateAgentDispatchRequest {
                agent_name: agent.agent_name,
                room: name.clone(),
                metadata: agent.metadata,
                restart_policy: agent.restart_policy,
                deployment: agent.deployment,
                attributes: agent.attributes,
            };
            if let Err(error) = self.create_dispatch(now, request) {
                tracing::warn!(room = name, %error, "agent not dispatched");
            }
        }
    }

    fn left(&mut self, now: Now, room: &str, sid: &str, identity: &str) {
        let Some(known) = self.rooms.get_mut(room) else {
            return;
        };
        if known.people.remove(sid).is_none() {
            return;
        }
        for dispatch in &mut known.dispatches {
            dispatch.served.retain(|(_, _, of)| of != sid);
        }
        let of_participant = |job: &Job| {
            let participant = job.record.participant.as_ref();
            job.room() == room && participant.is_some_and(|participant| participant.sid == sid)
        };
        for id in self.end_jobs(now, of_participant) {
            self.trim(&id);
        }
        for job in self.jobs.values_mut() {
            let is_its_agent = job.room() == room && job.state().participant_identity == identity;
            if is_its_agent && job.phase == (Phase::Orphaned { at: None }) {
                // Its worker may be back and say that it was done.
                let at = Some(now.at + ORPHAN_GRACE);
                job.phase = Phase::Orphaned { at };
            }
        }
    }

    /// Sends an agent to a room that is there.
    pub(super) fn create_dispatch(
        &mut self,
        now: Now,
        request: CreateAgentDispatchRequest,
    ) -> Result<AgentDispatch, DispatchError> {
        let id = format!("AD_{}", self.random.text(12));
        let room = self
            .rooms
            .get_mut(&request.room)
            .ok_or(DispatchError::RoomNotFound)?;
        if room.dispatches.len() >= MAX_DISPATCHES {
            return Err(DispatchError::TooMany);
        }
        let record = AgentDispatch {
            id,
            agent_name: request.agent_name,
            room: request.room,
            metadata: request.metadata,
            state: Some(AgentDispatchState {
                created_at: nanos(now),
                ..Default::default()
            }),
            restart_policy: request.restart_policy,
            deployment: request.deployment,
            attributes: request.attributes,
        };
        room.dispatches.push(Dispatch {
            record: record.clone(),
            served: HashSet::new(),
        });
        self.make_jobs(now, &record.room);
        Ok(self.with_jobs(record))
    }

    /// Calls an agent back.
    pub(super) fn delete_dispatch(
        &mut self,
        now: Now,
        room: &str,
        id: &str,
    ) -> Result<AgentDispatch, DispatchError> {
        let known = self.rooms.get_mut(room).ok_or(DispatchError::NotFound)?;
        let index = known
            .dispatches
            .iter()
            .position(|dispatch| dispatch.record.id == id)
            .ok_or(DispatchError::NotFound)?;
        let mut record = known.dispatches.remove(index).record;
        self.end_jobs(now, |job| job.record.dispatch_id == id);
        if let Some(state) = &mut record.state {
            state.deleted_at = nanos(now);
        }
        let record = self.with_jobs(record);
        self.jobs.retain(|_, job| job.record.dispatch_id != id);
        Ok(record)
    }

    /// All dispatches of a room, newest first, or the one of this id.
    pub(super) fn list_dispatches(&self, room: &str, id: &str) -> Vec<AgentDispatch> {
        let dispatches = self.rooms.get(room).map(|room| &room.dispatches);
        dispatches
            .into_iter()
            .flatten()
            .rev()
            .filter(|dispatch| id.is_empty() || dispatch.record.id == id)
            .map(|dispatch| self.with_jobs(dispatch.record.clone()))
            .collect()
    }

    fn with_jobs(&self, mut record: AgentDispatch) -> AgentDispatch {
        let own = self
            .jobs
            .values()
            .filter(|job| job.record.dispatch_id == record.id)
            .map(|job| job.record.clone());
        record.state.get_or_insert_default().jobs = own.collect();
        record
    }

    /// Makes the jobs that a room lacks, as far as there are workers with the skill.
    fn make_jobs(&mut self, now: Now, name: &str) {
        let skills: BTreeSet<&Skill> = self
            .workers
            .values()
            .filter_map(|w| w.skill.as_ref())
            .collect();
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let mut made = Vec::new();
        for dispatch in &mut room.dispatches {
            let served = dispatch.served.iter();
            let mut namespaces: BTreeSet<String> =
                served.map(|(_, name, _)| name.clone()).collect();
            for kind in [
                JobType::JtRoom,
                JobType::JtPublisher,
                JobType::JtParticipant,
            ] {
                let people = room.people.values().filter(|person| match kind {
                    JobType::JtRoom => false,
                    JobType::JtPublisher => person.publishes && !person.dependent,
                    JobType::JtParticipant => !person.dependent,
                });
                let nobody = (kind == JobType::JtRoom).then_some(None);
                let whom: Vec<Option<&ParticipantInfo>> = nobody
                    .into_iter()
                    .chain(people.map(|p| Some(&p.info)))
                    .collect();
                let able = skills.iter().filter(|skill| {
                    skill.kind == kind as i32
                        && skill.agent_name == dispatch.record.agent_name
                        && skill.deployment == dispatch.record.deployment
                });
                for (skill, participant) in
                    able.flat_map(|skill| whom.iter().map(move |whom| (skill, *whom)))
                {
                    let sid = participant.map_or_else(String::new, |info| info.sid.clone());
                    let known = namespaces.len();
                    if known >= MAX_NAMESPACES && !namespaces.contains(&skill.namespace) {
                        continue;
                    }
                    namespaces.insert(skill.namespace.clone());
                    let purpose = (kind, skill.namespace.clone(), sid);
                    if !dispatch.served.insert(purpose) {
                        continue;
                    }
                    let record = proto::Job {
                        dispatch_id: dispatch.record.id.clone(),
                        r#type: kind as i32,
                        room: Some(room.info.clone()),
                        participant: participant.cloned(),
                        metadata: dispatch.record.metadata.clone(),
                        agent_name: dispatch.record.agent_name.clone(),
                        namespace: skill.namespace.clone(),
                        deployment: dispatch.record.deployment.clone(),
                        attributes: dispatch.record.attributes.clone(),
                        ..Default::default()
                    };
                    made.push((record, dispatch.record.restart_policy()));
                }
            }
        }
        for (record, policy) in made {
            let id = self.add_job(record, policy, 0);
            self.look_for_worker(now, &id);
        }
    }

    fn add_job(
        &mut self,
        mut record: proto::Job,
        policy: JobRestartPolicy,
        failures: u32,
    ) -> String {
        let id = format!("AJ_{}", self.random.text(12));
        record.id.clone_from(&id);
        record.state = Some(proto::JobState::default());
        self.jobs
            .insert(id.clone(), Job::new(record, policy, failures));
        id
    }

    /// Asks the best worker for a job, or has the job wait.
    fn look_for_worker(&mut self, now: Now, id: &str) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        if job.record.dispatch_id.is_empty() {
            // A simulation is for the worker that wanted it.
            self.jobs.remove(id);
            return;
        }
        let candidates: Vec<(LinkId, f32)> = self
            .workers
            .iter()
            .filter(|(link, worker)| {
                let knows = worker.skill.as_ref().is_some_and(|skill| {
                    skill.kind == job.record.r#type
                        && skill.agent_name == job.record.agent_name
                        && skill.namespace == job.record.namespace
                        && skill.deployment == job.record.deployment
                });
                knows && !worker.full && !job.refused.contains(link) && !job.silent.contains(link)
            })
            .map(|(link, worker)| (*link, worker.load))
            .collect();
        if let Some(link) = choose(&candidates, &mut self.random) {
            return self.ask(now, id, link);
        }
        let at = (!job.silent.is_empty()).then(|| now.at + ASK_AGAIN);
        job.phase = Phase::Waiting { at };
    }

    /// There are more workers than before: jobs that wait for one look again. Those that pause go on pausing.
    fn look_for_workers(&mut self, now: Now) {
        let waiting: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.phase == Phase::Waiting { at: None })
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.look_for_worker(now, &id);
        }
    }

    fn ask(&mut self, now: Now, id: &str, link: LinkId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let until = now.at + ANSWER_TIMEOUT;
        job.phase = Phase::Asked { link, until };
        let request = AvailabilityRequest {
            job: Some(job.record.clone()),
            resuming: false,
        };
        self.send(link, server_message::Message::Availability(request));
    }

    /// Ends jobs; workers that have them are told. Returns their ids.
    fn end_jobs(&mut self, now: Now, which: impl Fn(&Job) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            if job.is_over() || !which(job) {
                continue;
            }
            if let Phase::Running { link } = job.phase {
                told.push((link, id.clone()));
            }
            job.set_status(now, JobStatus::JsSuccess, "");
            ended.push(id.clone());
        }
        for (link, job_id) in told {
            let termination = JobTermination { job_id };
            self.send(link, server_message::Message::Termination(termination));
        }
        ended
    }

    /// Forgets the oldest jobs of a dispatch that are over, and a simulation at once.
    fn trim(&mut self, id: &str) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let dispatch = job.record.dispatch_id.clone();
        let keep = if dispatch.is_empty() { 0 } else { MAX_ENDED };
        let mut ended: Vec<(i64, String)> = self
            .jobs
            .iter_mut()
            .filter(|(_, job)| job.is_over() && job.record.dispatch_id == dispatch)
            .map(|(id, job)| (job.state().ended_at, id.clone()))
            .collect();
        ended.sort();
        let surplus = ended.len().saturating_sub(keep);
        for (_, id) in ended.into_iter().take(surplus) {
            self.jobs.remove(&id);
        }
    }

    fn send(&mut self, link: LinkId, message: server_message::Message) {
        let message = Some(message);
        self.outputs
            .push_back(Output::Send(link, Box::new(ServerMessage { message })));
    }
}
