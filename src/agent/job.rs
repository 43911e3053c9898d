//! One job: an agent's work in one room, from the search for a worker to its end; and the token it joins with.

use super::worker::{LinkId, Worker};
use crate::config::Keys;
use crate::protocol::livekit::{
    AvailabilityResponse, Job as Record, JobRestartPolicy, JobState, JobStatus,
    ParticipantPermission,
};
use crate::protocol::token::{Claims, VideoGrant, sign};
use crate::room::Now;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The attribute by which clients know an agent.
const NAME_ATTRIBUTE: &str = "lk.agent_name";
/// An agent joins with a token of one hour; the room refreshes it.
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No worker takes it now; looked for again at this moment, or when workers change.
    Waiting { at: Option<Instant> },
    /// A worker was asked whether it takes it.
    Asked { link: LinkId, until: Instant },
    /// A worker has it.
    Running { link: LinkId },
    /// Its worker is gone; given to another one at this moment unless the agent is still there.
    Orphaned { at: Option<Instant> },
    /// It is over.
    Ended,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Job {
    /// As workers and ListDispatch see it.
    pub(super) record: Record,
    pub(super) phase: Phase,
    pub(super) policy: JobRestartPolicy,
    /// Workers that said no.
    pub(super) refused: HashSet<LinkId>,
    /// Workers that did not answer; asked again later.
    pub(super) silent: HashSet<LinkId>,
    /// How many jobs of the same purpose failed before this one.
    pub(super) failures: u32,
}

impl Job {
    pub(super) fn new(record: Record, policy: JobRestartPolicy, failures: u32) -> Self {
        Self {
            record,
            phase: Phase::Waiting { at: None },
            policy,
            refused: HashSet::new(),
            silent: HashSet::new(),
            failures,
        }
    }

    pub(super) fn state(&mut self) -> &mut JobState {
        self.record.state.get_or_insert_default()
    }

    /// The worker that was asked or that has it.
    pub(super) fn link(&self) -> Option<LinkId> {
        match self.phase {
            Phase::Asked { link, .. } | Phase::Running { link } => Some(link),
            _ => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { at } | Phase::Orphaned { at } => at,
            Phase::Asked { until, .. } => Some(until),
            Phase::Running { .. } | Phase::Ended => None,
        }
    }

    /// Names of rooms and of participants it belongs to.
    pub(super) fn room(&self) -> &str {
        self.record.room.as_ref().map_or("", |room| &room.name)
    }

    /// Notes a status as a worker reports it.
    pub(super) fn set_status(&mut self, now: Now, status: JobStatus, error: &str) {
        let nanos = nanos(now);
        let state = self.state();
        state.updated_at = nanos;
        if state.started_at == 0 && status == JobStatus::JsRunning {
            state.started_at = nanos;
        }
        state.status = status as i32;
        error.clone_into(&mut state.error);
        if matches!(status, JobStatus::JsSuccess | JobStatus::JsFailed) {
            state.ended_at = nanos;
            self.phase = Phase::Ended;
        }
    }

    /// The worker takes it: the token of its agent, as the answer wants it to be. `None`: the key is gone.
    pub(super) fn accept(
        &mut self,
        now: Now,
        link: LinkId,
        worker: &Worker,
        answer: AvailabilityResponse,
        keys: &Keys,
    ) -> Option<String> {
        let identity = if answer.participant_identity.is_empty() {
            format!("agent-{}", self.record.id)
        } else {
            answer.participant_identity
        };
        let mut attributes = answer.participant_attributes;
        let name = worker.skill.as_ref().map_or("", |skill| &skill.agent_name);
        attributes.insert(NAME_ATTRIBUTE.to_owned(), name.to_owned());
        let claims = Claims {
            iss: worker.api_key.clone(),
            sub: identity.clone(),
            nbf: now.unix_s(),
            exp: now.unix_s() + TOKEN_TTL.as_secs(),
            name: answer.participant_name,
            metadata: answer.participant_metadata,
            attributes,
            kind: "agent".to_owned(),
            video: Some(grant(self.room(), &worker.permissions)),
            ..Claims::default()
        };
        let token = sign(&claims, keys.secret(&worker.api_key)?);
        self.phase = Phase::Running { link };
        self.set_status(now, JobStatus::JsRunning, "");
        let state = self.state();
        state.participant_identity = identity;
        state.worker_id.clone_from(&worker.id);
        Some(token)
    }
}

/// Nanoseconds since 1970, in which jobs and dispatches are dated.
pub(super) fn nanos(now: Now) -> i64 {
    i64::try_from(now.unix_us.saturating_mul(1000)).unwrap_or(i64::MAX)
}

fn grant(room: &str, permissions: &ParticipantPermission) -> VideoGrant {
    VideoGrant {
        room_join: true,
        room: room.to_owned(),
        agent: true,
        can_publish: Some(permissions.can_publish),
        can_subscribe: Some(permissions.can_subscribe),
        can_publish_data: Some(permissions.can_publish_data),
        can_update_own_metadata: Some(permissions.can_update_metadata),
        can_subscribe_metrics: Some(permissions.can_subscribe_metrics),
        can_manage_agent_session: Some(permissions.can_manage_agent_session),
        can_publish_sources: permissions
            .can_publish_sources()
            .map(|source| source.as_str_name().to_ascii_lowercase())
            .collect(),
        hidden: permissions.hidden,
        ..VideoGrant::default()
    }
}
