//! What the keeper of agents hears of a room, and how agents count in it.

use super::calls::Call;
use super::*;

impl Lab {
    /// The facts since the last call, in words.
    fn told(&mut self) -> Vec<String> {
        let facts = std::mem::take(&mut self.facts);
        let words = facts.into_iter().map(|fact| match fact {
            Fact::Started { room, agents } => format!("started {} {}", room.name, agents.len()),
            Fact::Changed { room } => format!("changed {}", room.metadata),
            Fact::Joined {
                participant,
                dependent,
                ..
            } => format!("joined {} {dependent}", participant.identity),
            Fact::Published { participant, .. } => {
                format!(
                    "published {} {}",
                    participant.identity,
                    participant.tracks.len()
                )
            }
            Fact::Left { identity, .. } => format!("left {identity}"),
            Fact::Finished { room } => format!("finished {room}"),
        });
        words.collect()
    }
}

#[test]
fn a_call_is_told_as_facts_from_beginning_to_end() {
    let mut call = Call::new([0, 0]);
    assert_eq!(
        call.lab.told(),
        [
            "started lab 0",
            "joined alice false",
            "published alice 1",
            "published alice 2",
            "joined bob false",
        ]
    );
    let leave = LeaveRequest::default();
    let alice = call.alice;
    call.lab
        .request(alice, signal_request::Message::Leave(leave));
    call.lab.room.shut_down(call.lab.now);
    call.lab.drain();
    assert_eq!(call.lab.told(), ["left alice", "left bob", "finished lab"]);
}

#[test]
fn agents_of_the_configuration_are_told_at_the_start() {
    let mut lab = Lab::new();
    let now = lab.now;
    let agents = |names: &[&str]| proto::RoomConfiguration {
        agents: names
            .iter()
            .map(|name| proto::RoomAgentDispatch {
                agent_name: (*name).to_owned(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let mut room = Room::new(now, "new", 2, lab.room.settings.clone(), Random::seeded(1));
    room.configure(now, &agents(&["preset"]));
    room.configure(now, &agents(&[]));
    room.configure(now, &agents(&["own", "other"]));
    room.start(now);
    lab.room = room;
    lab.told();
    lab.drain();
    let [Fact::Started { agents, .. }] = lab.facts.as_slice() else {
        panic!("{:?}", lab.facts)
    };
    let names: Vec<_> = agents.iter().map(|agent| &agent.agent_name).collect();
    assert_eq!(names, ["own", "other"]);
}

#[test]
fn agents_keep_no_room_alive_and_are_told_that_it_closes() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let agent = lab.grant("agent", |grant| grant.agent = true);
    lab.connect();
    assert_eq!(
        lab.told(),
        ["started lab 0", "joined alice false", "joined agent true"]
    );
    let leave = LeaveRequest::default();
    lab.request(alice, signal_request::Message::Leave(leave));
    lab.wait(Duration::from_millis(19_999));
    assert!(!lab.room.is_finished());
    lab.closed.clear();
    lab.heard(agent);
    lab.wait(Duration::from_millis(1));
    assert!(lab.room.is_finished());
    assert_eq!(lab.closed, [agent]);
    let said = lab.heard(agent);
    let Some(signal_response::Message::Leave(leave)) =
        said.iter().find(|message| kind(message) == "leave")
    else {
        panic!("{said:?}")
    };
    assert_eq!(leave.reason(), DisconnectReason::RoomClosed);
    assert_eq!(lab.told(), ["left alice", "left agent", "finished lab"]);
}

#[test]
fn an_agent_alone_waits_for_people_as_long_as_an_empty_room_does() {
    let mut lab = Lab::new();
    lab.grant("agent", |grant| grant.agent = true);
    lab.connect();
    lab.wait(Duration::from_secs(299));
    assert!(!lab.room.is_finished());
    lab.join("alice");
    lab.connect();
    lab.wait(Duration::from_secs(3600));
    assert!(!lab.room.is_finished());

    let mut lab = Lab::new();
    lab.grant("agent", |grant| grant.agent = true);
    lab.connect();
    lab.wait(Duration::from_secs(300));
    assert!(lab.room.is_finished());
}
