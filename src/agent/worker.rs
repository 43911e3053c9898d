//! One worker: a WebSocket of an application that runs agents; and which of several gets a job.

use crate::protocol::livekit::{
    JobType, ParticipantPermission, RegisterWorkerRequest, UpdateWorkerStatus, WorkerStatus,
};
use crate::random::Random;
use std::time::Instant;

/// One WebSocket of a worker, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// The jobs that a worker takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Skill {
    pub(super) kind: i32,
    /// Empty: it serves every room that names nobody.
    pub(super) agent_name: String,
    /// Workers of one name may be divided; each division gets a job of its own.
    pub(super) namespace: String,
    pub(super) deployment: String,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Worker {
    /// `AW_…`.
    pub(super) id: String,
    /// Signs the tokens of its agents.
    pub(super) api_key: String,
    /// What it takes; `None` before it has registered.
    pub(super) skill: Option<Skill>,
    /// What its agents may do.
    pub(super) permissions: ParticipantPermission,
    /// To register until then.
    pub(super) register_by: Instant,
    pub(super) full: bool,
    /// 0 idle to 1 busy, as it says.
    pub(super) load: f32,
}

impl Worker {
    pub(super) fn new(id: String, api_key: String, register_by: Instant) -> Self {
        Self {
            id,
            api_key,
            skill: None,
            permissions: ParticipantPermission::default(),
            register_by,
            full: false,
            load: 0.0,
        }
    }

    /// `false`: the request names a kind of job that does not exist.
    pub(super) fn register(&mut self, request: RegisterWorkerRequest) -> bool {
        if JobType::try_from(request.r#type).is_err() {
            return false;
        }
        self.permissions = request
            .allowed_permissions
            .unwrap_or_else(|| ParticipantPermission {
                can_subscribe: true,
                can_publish: true,
                can_publish_data: true,
                can_update_metadata: true,
                ..Default::default()
            });
        self.skill = Some(Skill {
            kind: request.r#type,
            agent_name: request.agent_name,
            namespace: request.namespace.unwrap_or_default(),
            deployment: request.deployment,
        });
        true
    }

    /// Takes over what it says of itself; `true`: it takes jobs now and did not before.
    pub(super) fn update(&mut self, status: &UpdateWorkerStatus) -> bool {
        let before = self.full;
        if let Some(now) = status.status {
            self.full = now == WorkerStatus::WsFull as i32;
        }
        self.full |= status.draining;
        self.load = if status.load.is_finite() {
            status.load.clamp(0.0, 1.0)
        } else {
            1.0
        };
        before && !self.full
    }
}

/// One of these workers by chance, those with less load more often. `None` of none.
pub(super) fn choose(candidates: &[(LinkId, f32)], random: &mut Random) -> Option<LinkId> {
    /// A worker at its limit that still says AVAILABLE is asked now and then.
    const LEAST: f32 = 0.01;
    let weight = |load: f32| (1.0 - load).max(LEAST);
    let total: f32 = candidates.iter().map(|(_, load)| weight(*load)).sum();
    let mut left = random.u32() as f32 / u32::MAX as f32 * total;
    for (link, load) in candidates {
        left -= weight(*load);
        if left <= 0.0 {
            return Some(*link);
        }
    }
    // Rounding may leave a little.
    candidates.last().map(|(link, _)| *link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_workers_are_chosen_more_often_than_busy_ones() {
        let mut random = Random::seeded(3);
        let candidates = [(LinkId(1), 0.0), (LinkId(2), 0.75), (LinkId(3), 1.0)];
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            let LinkId(link) = choose(&candidates, &mut random).unwrap();
            counts[usize::try_from(link).unwrap() - 1] += 1;
        }
        let [idle, busy, spent] = counts;
        assert!((7_600..8_200).contains(&idle), "{counts:?}");
        assert!((1_800..2_200).contains(&busy), "{counts:?}");
        assert!((20..200).contains(&spent), "{counts:?}");
        assert_eq!(choose(&[], &mut random), None);
    }

    #[test]
    fn a_load_that_is_no_number_counts_as_full_load() {
        let mut worker = Worker::new(String::new(), String::new(), Instant::now());
        worker.update(&UpdateWorkerStatus {
            load: f32::NAN,
            ..Default::default()
        });
        assert!((worker.load - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn a_worker_that_drains_gets_nothing_until_it_is_available_again() {
        let mut worker = Worker::new(String::new(), String::new(), Instant::now());
        let says = |status: Option<WorkerStatus>, draining| UpdateWorkerStatus {
            status: status.map(|status| status as i32),
            draining,
            ..Default::default()
        };
        assert!(!worker.update(&says(None, true)));
        assert!(worker.full);
        assert!(!worker.update(&says(None, false)), "it said nothing of it");
        assert!(worker.update(&says(Some(WorkerStatus::WsAvailable), false)));
        assert!(!worker.full);
    }
}
