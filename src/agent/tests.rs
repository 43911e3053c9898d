//! The keeper's promises in virtual time.

use super::registry::{DispatchError, Output, Registry};
use super::worker::LinkId;
use crate::config::Keys;
use crate::protocol::livekit::{
    self as proto, AvailabilityResponse, CreateAgentDispatchRequest, Job, JobStatus, JobType,
    MigrateJobRequest, ParticipantInfo, RegisterWorkerRequest, RoomAgentDispatch, ServerInfo,
    SimulateJobRequest, UpdateJobStatus, UpdateWorkerStatus, WorkerMessage, WorkerStatus,
    server_message, worker_message,
};
use crate::protocol::token;
use crate::random::Random;
use crate::room::{Fact, Now};
use crate::secret::Secret;
use std::collections::HashMap;
use std::time::{Duration, Instant};

struct Lab {
    registry: Registry,
    now: Now,
    keys: Keys,
    said: Vec<(LinkId, server_message::Message)>,
    closed: Vec<LinkId>,
}

impl Lab {
    fn new() -> Self {
        let keys = Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]);
        let server = ServerInfo {
            agent_protocol: 1,
            ..Default::default()
        };
        Self {
            registry: Registry::new(keys.clone(), server, Random::seeded(1)),
            now: Now {
                at: Instant::now(),
                unix_us: 1_800_000_000_000_000,
            },
            keys,
            said: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.registry.poll() {
            match output {
                Output::Send(link, message) => self.said.push((link, message.message.unwrap())),
                Output::Close(link) => self.closed.push(link),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.registry.next_timeout().filter(|at| *at <= end) {
            let step = at.max(self.now.at) - self.now.at;
            self.now.at += step;
            self.now.unix_us += u64::try_from(step.as_micros()).unwrap();
            self.registry.handle_timeout(self.now);
            self.drain();
        }
        self.now.unix_us += u64::try_from((end - self.now.at).as_micros()).unwrap();
        self.now.at = end;
    }

    fn says(&mut self, link: LinkId, message: worker_message::Message) {
        let message = WorkerMessage {
            message: Some(message),
        };
        self.registry.handle_message(self.now, link, message);
        self.drain();
    }

    fn worker(&mut self, kind: JobType, agent_name: &str) -> LinkId {
        let link = self.registry.connect(self.now, "key".to_owned());
        let request = RegisterWorkerRequest {
            r#type: kind as i32,
            agent_name: agent_name.to_owned(),
            ..Default::default()
        };
        self.says(link, worker_message::Message::Register(request));
        link
    }

    fn fact(&mut self, fact: Fact) {
        self.registry.handle_fact(self.now, fact);
        self.drain();
    }

    fn room(&mut self, agents: &[&str]) {
        let agents = agents.iter().map(|name| RoomAgentDispatch {
            agent_name: (*name).to_owned(),
            metadata: "m".to_owned(),
            ..Default::default()
        });
        let room = proto::Room {
            name: "hall".to_owned(),
            ..Default::default()
        };
        let agents = agents.collect();
        self.fact(Fact::Started { room, agents });
    }

    fn joins(&mut self, identity: &str, dependent: bool) {
        let participant = person(identity);
        let room = "hall".to_owned();
        self.fact(Fact::Joined {
            room,
            participant,
            dependent,
        });
    }

    fn publishes(&mut self, identity: &str) {
        let participant = person(identity);
        let room = "hall".to_owned();
        self.fact(Fact::Published { room, participant });
    }

    fn leaves(&mut self, identity: &str) {
        self.fact(Fact::Left {
            room: "hall".to_owned(),
            sid: format!("PA_{identity}"),
            identity: identity.to_owned(),
        });
    }

    fn ends(&mut self) {
        let room = "hall".to_owned();
        self.fact(Fact::Finished { room });
    }

    /// Takes the requests for availability.
    fn asked(&mut self) -> Vec<(LinkId, Job)> {
        let said = std::mem::take(&mut self.said);
        let asked = said
            .into_iter()
            .filter_map(|(link, message)| match message {
                server_message::Message::Availability(request) => {
                    Some((link, request.job.unwrap()))
                }
                _ => None,
            });
        asked.collect()
    }

    fn asked_one(&mut self) -> (LinkId, Job) {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// Takes the terminations.
    fn terminated(&mut self) -> Vec<(LinkId, String)> {
        let said = std::mem::take(&mut self.said);
        let ended = said
            .into_iter()
            .filter_map(|(link, message)| match message {
                server_message::Message::Termination(message) => Some((link, message.job_id)),
                _ => None,
            });
        ended.collect()
    }

    fn answers(&mut self, link: LinkId, job: &Job, available: bool) {
        let answer = AvailabilityResponse {
            job_id: job.id.clone(),
            available,
            ..Default::default()
        };
        self.says(link, worker_message::Message::Availability(answer));
    }

    /// A job that runs at the worker that was asked.
    fn running(&mut self) -> (LinkId, Job) {
        let (link, job) = self.asked_one();
        self.answers(link, &job, true);
        self.said.clear();
        (link, job)
    }

    fn reports(&mut self, link: LinkId, job: &Job, status: JobStatus) {
        let update = UpdateJobStatus {
            job_id: job.id.clone(),
            status: status as i32,
            error: "e".to_owned(),
        };
        self.says(link, worker_message::Message::UpdateJob(update));
    }

    fn status(&mut self, link: LinkId, status: WorkerStatus, load: f32) {
        let update = UpdateWorkerStatus {
            status: Some(status as i32),
            load,
            ..Default::default()
        };
        self.says(link, worker_message::Message::UpdateWorker(update));
    }

    fn jobs(&self) -> Vec<Job> {
        let dispatches = self.registry.list_dispatches("hall", "");
        let jobs = dispatches.into_iter().flat_map(|d| d.state.unwrap().jobs);
        jobs.collect()
    }

    fn statuses(&self) -> Vec<JobStatus> {
        let jobs = self.jobs();
        jobs.iter()
            .map(|j| j.state.as_ref().unwrap().status())
            .collect()
    }

    fn dispatch(&mut self, agent_name: &str) -> String {
        let request = CreateAgentDispatchRequest {
            agent_name: agent_name.to_owned(),
            room: "hall".to_owned(),
            ..Default::default()
        };
        let dispatch = self.registry.create_dispatch(self.now, request).unwrap();
        self.drain();
        dispatch.id
    }
}

fn person(identity: &str) -> ParticipantInfo {
    ParticipantInfo {
        sid: format!("PA_{identity}"),
        identity: identity.to_owned(),
        ..Default::default()
    }
}

#[test]
fn a_worker_without_a_name_serves_every_room_that_names_nobody() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "");
    assert!(matches!(
        lab.said.as_slice(),
        [(to, server_message::Message::Register(response))]
            if *to == link && response.worker_id.starts_with("AW_") && response.server_info.is_some()
    ));
    lab.said.clear();
    lab.room(&[]);
    let (to, job) = lab.asked_one();
    assert_eq!(
        (to, job.room.as_ref().unwrap().name.as_str()),
        (link, "hall")
    );
    assert!(job.id.starts_with("AJ_") && job.dispatch_id.starts_with("AD_"));
    lab.answers(link, &job, true);
    let [(_, server_message::Message::Assignment(assignment))] = lab.said.as_slice() else {
        panic!("{:?}", lab.said)
    };
    let now = lab.now.unix_s();
    let (claims, key) = token::verify(now, &assignment.token, &lab.keys).unwrap();
    let video = claims.video.unwrap();
    assert_eq!(
        (key.as_str(), claims.kind.as_str(), claims.sub, claims.exp),
        ("key", "agent", format!("agent-{}", job.id), now + 3600)
    );
    assert!(video.room_join && video.agent && video.room == "hall");
    assert_eq!(video.can_publish, Some(true));
    assert_eq!(claims.attributes["lk.agent_name"], "");
    assert_eq!(lab.statuses(), [JobStatus::JsRunning]);
}

#[test]
fn a_named_agent_comes_only_where_it_is_asked_for() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "helper");
    lab.said.clear();
    lab.room(&[]);
    assert!(lab.asked().is_empty());
    lab.ends();
    lab.room(&["helper", "absent"]);
    let (to, job) = lab.asked_one();
    assert_eq!(
        (to, job.metadata.as_str(), job.agent_name.as_str()),
        (link, "m", "helper")
    );
}

#[test]
fn the_answer_shapes_the_agent() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "helper");
    lab.room(&["helper"]);
    let (_, job) = lab.asked_one();
    let answer = AvailabilityResponse {
        job_id: job.id,
        available: true,
        participant_identity: "bot".to_owned(),
        participant_name: "Bot".to_owned(),
        participant_metadata: "meta".to_owned(),
        participant_attributes: HashMap::from([("a".to_owned(), "b".to_owned())]),
        ..Default::default()
    };
    lab.says(link, worker_message::Message::Availability(answer));
    let Some((_, server_message::Message::Assignment(assignment))) = lab.said.last() else {
        panic!("{:?}", lab.said)
    };
    let (claims, _) = token::verify(lab.now.unix_s(), &assignment.token, &lab.keys).unwrap();
    assert_eq!(
        (
            claims.sub.as_str(),
            claims.name.as_str(),
            claims.metadata.as_str()
        ),
        ("bot", "Bot", "meta")
    );
    assert_eq!(claims.attributes["lk.agent_name"], "helper");
    assert_eq!(claims.attributes["a"], "b");
}

#[test]
fn who_refuses_is_asked_once_and_the_other_takes_it() {
    let mut lab = Lab::new();
    let both = [
        lab.worker(JobType::JtRoom, ""),
        lab.worker(JobType::JtRoom, ""),
    ];
    lab.said.clear();
    lab.room(&[]);
    let (first, job) = lab.asked_one();
    lab.answers(first, &job, false);
    let (second, again) = lab.asked_one();
    assert!(first != second && both.contains(&second));
    assert_eq!(job.id, again.id);
    lab.answers(second, &job, false);
    lab.pass(Duration::from_secs(120));
    assert!(lab.asked().is_empty(), "nobody is asked twice");
    let third = lab.worker(JobType::JtRoom, "");
    let (asked, _) = lab.asked_one();
    assert_eq!(asked, third);
}

#[test]
fn who_does_not_answer_loses_the_job_and_is_asked_again_later() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (_, job) = lab.asked_one();
    lab.pass(Duration::from_millis(9_999));
    assert!(lab.asked().is_empty());
    lab.pass(Duration::from_millis(1));
    lab.answers(link, &job, true);
    assert!(lab.said.is_empty(), "too late");
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.asked_one().0, link);
}

#[test]
fn a_full_worker_gets_nothing_until_it_has_room() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "");
    lab.status(link, WorkerStatus::WsFull, 0.9);
    lab.said.clear();
    lab.room(&[]);
    assert!(lab.asked().is_empty());
    assert_eq!(lab.statuses(), [JobStatus::JsPending]);
    lab.status(link, WorkerStatus::WsAvailable, 0.1);
    assert_eq!(lab.asked_one().0, link);
}

#[test]
fn a_worker_that_comes_later_serves_rooms_that_are_there() {
    let mut lab = Lab::new();
    lab.room(&[]);
    lab.joins("alice", false);
    lab.publishes("alice");
    assert!(lab.jobs().is_empty(), "without workers there are no jobs");
    for kind in [
        JobType::JtRoom,
        JobType::JtParticipant,
        JobType::JtPublisher,
    ] {
        let link = lab.worker(kind, "");
        let (to, job) = lab.asked_one();
        assert_eq!((to, job.r#type()), (link, kind));
        let target = job.participant.map_or(String::new(), |p| p.identity);
        assert_eq!(target, if kind == JobType::JtRoom { "" } else { "alice" });
    }
}

#[test]
fn people_and_publishers_get_agents_of_their_own_and_agents_get_none() {
    let mut lab = Lab::new();
    let people = lab.worker(JobType::JtParticipant, "");
    let publishers = lab.worker(JobType::JtPublisher, "");
    lab.said.clear();
    lab.room(&[]);
    lab.joins("alice", false);
    let (to, alices) = lab.asked_one();
    assert_eq!(to, people);
    lab.answers(to, &alices, true);
    lab.said.clear();
    lab.publishes("alice");
    assert_eq!(lab.asked_one().0, publishers);
    lab.publishes("alice");
    lab.joins("agent-x", true);
    lab.publishes("agent-x");
    assert!(lab.asked().is_empty());
    lab.leaves("alice");
    assert_eq!(lab.terminated(), [(people, alices.id)]);
    lab.joins("alice", false);
    assert_eq!(lab.asked_one().0, people, "who comes back gets a new one");
}

#[test]
fn the_end_of_the_room_ends_its_jobs() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (link, job) = lab.running();
    lab.ends();
    assert_eq!(lab.terminated(), [(link, job.id)]);
    assert!(lab.registry.list_dispatches("hall", "").is_empty());
    assert_eq!(lab.registry.next_timeout(), None);
}

#[test]
fn a_dispatch_calls_an_agent_and_its_deletion_calls_it_back() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "helper");
    lab.said.clear();
    lab.room(&[]);
    let id = lab.dispatch("helper");
    let (link, job) = lab.running();
    assert_eq!(job.dispatch_id, id);
    let names: Vec<_> = lab
        .registry
        .list_dispatches("hall", "")
        .into_iter()
        .map(|d| d.agent_name)
        .collect();
    assert_eq!(names, ["helper", ""]);
    assert_eq!(lab.registry.list_dispatches("hall", &id).len(), 1);
    let gone = lab.registry.delete_dispatch(lab.now, "hall", &id).unwrap();
    lab.drain();
    let state = gone.state.unwrap();
    assert!(state.deleted_at > 0 && state.jobs[0].state.as_ref().unwrap().ended_at > 0);
    assert_eq!(lab.terminated(), [(link, job.id)]);
    assert_eq!(
        lab.registry.delete_dispatch(lab.now, "hall", &id),
        Err(DispatchError::NotFound)
    );
    assert_eq!(lab.registry.list_dispatches("hall", &id), []);
}

#[test]
fn each_namespace_of_a_name_has_a_job_of_its_own() {
    let mut lab = Lab::new();
    let mut worker = |namespace: &str| {
        let link = lab.registry.connect(lab.now, "key".to_owned());
        let request = RegisterWorkerRequest {
            r#type: JobType::JtRoom as i32,
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        };
        lab.says(link, worker_message::Message::Register(request));
        link
    };
    let links = [worker("one"), worker("two")];
    lab.room(&[""]);
    let asked = |lab: &mut Lab| -> Vec<(LinkId, String)> {
        let asked = lab.asked().into_iter();
        #[expect(deprecated, reason = "older workers name a namespace")]
        asked.map(|(link, job)| (link, job.namespace)).collect()
    };
    let mut first = asked(&mut lab);
    first.sort();
    let one = (links[0], "one".to_owned());
    assert_eq!(first, [one, (links[1], "two".to_owned())]);
}

#[test]
fn namespaces_are_bounded_for_each_dispatch() {
    let mut lab = Lab::new();
    lab.room(&[""]);
    for number in 0..40 {
        let link = lab.registry.connect(lab.now, "key".to_owned());
        let request = RegisterWorkerRequest {
            r#type: JobType::JtRoom as i32,
            namespace: Some(number.to_string()),
            ..Default::default()
        };
        lab.says(link, worker_message::Message::Register(request));
        lab.registry.disconnect(lab.now, link);
    }
    assert_eq!(lab.registry.jobs_kept(), 16);
}

#[test]
fn dispatches_need_a_room_and_are_bounded() {
    let mut lab = Lab::new();
    let request = CreateAgentDispatchRequest {
        room: "hall".to_owned(),
        ..Default::default()
    };
    let made = |lab: &mut Lab| {
        lab.registry
            .create_dispatch(lab.now, request.clone())
            .map(|_| ())
    };
    assert_eq!(made(&mut lab), Err(DispatchError::RoomNotFound));
    lab.room(&[]);
    for _ in 0..63 {
        made(&mut lab).unwrap();
    }
    assert_eq!(made(&mut lab), Err(DispatchError::TooMany));
}

#[test]
fn a_question_to_a_worker_that_vanishes_goes_to_another_at_once() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (first, _) = lab.asked_one();
    lab.registry.disconnect(lab.now, first);
    lab.drain();
    assert_ne!(lab.asked_one().0, first);
}

#[test]
fn a_job_whose_worker_is_gone_goes_to_another_after_a_while() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (link, job) = lab.running();
    lab.registry.disconnect(lab.now, link);
    let other = lab.worker(JobType::JtRoom, "");
    lab.pass(Duration::from_millis(9_999));
    assert!(lab.asked().is_empty());
    lab.pass(Duration::from_secs(2));
    let (to, again) = lab.asked_one();
    assert_eq!(to, other);
    assert_ne!(again.id, job.id);
    assert_eq!(again.dispatch_id, job.dispatch_id);
}

#[test]
fn an_agent_that_is_still_there_is_replaced_only_when_it_leaves() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (link, job) = lab.running();
    let identity = format!("agent-{}", job.id);
    lab.joins(&identity, true);
    lab.registry.disconnect(lab.now, link);
    let other = lab.worker(JobType::JtRoom, "");
    lab.pass(Duration::from_secs(3600));
    assert!(lab.asked().is_empty());
    lab.leaves(&identity);
    lab.pass(Duration::from_secs(9));
    assert!(lab.asked().is_empty(), "its worker may say how it went");
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.asked_one().0, other);
}

#[test]
fn an_agent_that_was_done_is_not_called_again_though_its_worker_was_away_for_a_while() {
    for reports_first in [true, false] {
        let mut lab = Lab::new();
        lab.worker(JobType::JtRoom, "");
        lab.said.clear();
        lab.room(&[]);
        let (link, job) = lab.running();
        let identity = format!("agent-{}", job.id);
        lab.joins(&identity, true);
        lab.registry.disconnect(lab.now, link);
        let again = lab.worker(JobType::JtRoom, "");
        lab.pass(Duration::from_secs(60));
        if reports_first {
            lab.reports(again, &job, JobStatus::JsSuccess);
        }
        lab.leaves(&identity);
        lab.pass(Duration::from_secs(2));
        lab.reports(again, &job, JobStatus::JsSuccess);
        lab.pass(Duration::from_secs(60));
        assert!(lab.asked().is_empty());
    }
}

#[test]
fn a_worker_that_comes_back_in_time_keeps_its_jobs() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (link, job) = lab.running();
    lab.registry.disconnect(lab.now, link);
    let again = lab.worker(JobType::JtRoom, "");
    let request = MigrateJobRequest {
        job_ids: vec![job.id.clone(), "AJ_other".to_owned()],
    };
    lab.says(again, worker_message::Message::MigrateJob(request));
    lab.pass(Duration::from_secs(60));
    assert!(lab.asked().is_empty());
    lab.ends();
    assert_eq!(lab.terminated(), [(again, job.id)]);
}

#[test]
fn a_job_that_fails_is_done_again_three_times_and_one_that_succeeds_never() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    for pause in [1, 2, 4] {
        let (_, job) = lab.running();
        lab.reports(link, &job, JobStatus::JsFailed);
        lab.pass(Duration::from_millis(pause * 1000 - 1));
        assert!(lab.asked().is_empty());
        lab.pass(Duration::from_millis(1));
    }
    let (_, job) = lab.running();
    lab.reports(link, &job, JobStatus::JsFailed);
    lab.pass(Duration::from_secs(600));
    assert!(lab.asked().is_empty());
    assert_eq!(lab.statuses(), [JobStatus::JsFailed; 4]);

    lab.ends();
    lab.room(&[]);
    let (_, job) = lab.running();
    lab.reports(link, &job, JobStatus::JsSuccess);
    lab.pass(Duration::from_secs(600));
    assert!(lab.asked().is_empty());
    assert_eq!(lab.statuses(), [JobStatus::JsSuccess]);
}

#[test]
fn only_the_worker_that_has_a_job_may_speak_of_it() {
    let mut lab = Lab::new();
    lab.worker(JobType::JtRoom, "");
    lab.said.clear();
    lab.room(&[]);
    let (_, job) = lab.running();
    let other = lab.worker(JobType::JtRoom, "");
    lab.reports(other, &job, JobStatus::JsFailed);
    lab.answers(other, &job, true);
    assert_eq!(lab.statuses(), [JobStatus::JsRunning]);
}

#[test]
fn a_worker_has_ten_seconds_to_register_and_nothing_else_counts_before() {
    let mut lab = Lab::new();
    let link = lab.registry.connect(lab.now, "key".to_owned());
    lab.status(link, WorkerStatus::WsAvailable, 0.0);
    let simulation = SimulateJobRequest::default();
    lab.says(link, worker_message::Message::SimulateJob(simulation));
    assert!(lab.said.is_empty());
    lab.pass(Duration::from_secs(10));
    assert_eq!(lab.closed, [link]);
}

#[test]
fn a_kind_of_job_that_does_not_exist_closes_the_worker() {
    let mut lab = Lab::new();
    let link = lab.registry.connect(lab.now, "key".to_owned());
    let request = RegisterWorkerRequest {
        r#type: 9,
        ..Default::default()
    };
    lab.says(link, worker_message::Message::Register(request));
    assert_eq!(lab.closed, [link]);
    assert!(lab.said.is_empty());
}

#[test]
fn a_simulated_job_goes_to_the_worker_that_wants_it_and_leaves_nothing() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtRoom, "helper");
    lab.worker(JobType::JtRoom, "helper");
    lab.said.clear();
    let simulation = SimulateJobRequest {
        room: Some(proto::Room {
            name: "trial".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    lab.says(link, worker_message::Message::SimulateJob(simulation));
    let (to, job) = lab.running();
    assert_eq!((to, job.dispatch_id.as_str()), (link, ""));
    lab.reports(link, &job, JobStatus::JsSuccess);
    assert_eq!(lab.registry.jobs_kept(), 0);
}

#[test]
fn jobs_that_are_over_are_kept_up_to_a_bound() {
    let mut lab = Lab::new();
    let link = lab.worker(JobType::JtParticipant, "");
    lab.said.clear();
    lab.room(&[]);
    for index in 0..100 {
        let identity = format!("p{index}");
        lab.joins(&identity, false);
        let (_, job) = lab.running();
        lab.pass(Duration::from_secs(1));
        if index % 2 == 0 {
            lab.reports(link, &job, JobStatus::JsSuccess);
        }
        lab.leaves(&identity);
    }
    assert_eq!(lab.registry.jobs_kept(), 16);
}
