//! Who waits for slow readers, and how long.

use super::data::{delivered, send};
use super::*;

/// Alice, who sends, with two readers.
struct Scene {
    lab: Lab,
    alice: TransportId,
    bob: TransportId,
    carol: TransportId,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|identity| {
            lab.join(identity);
            lab.connect()
        });
        Self {
            lab,
            alice,
            bob,
            carol,
        }
    }

    fn lag(&mut self, id: TransportId, behind: bool) {
        self.lab.event(Event::Behind { id, behind });
    }

    /// A message of Alice's; to all if it names nobody.
    fn tell(&mut self, names: &[&str]) {
        send(&mut self.lab, self.alice, &message(names, 0));
    }

    fn is_held(&self) -> bool {
        self.lab.workers.held.contains(&self.alice)
    }
}

/// To these, or to all; with that many bytes.
fn message(names: &[&str], len: usize) -> DataPacket {
    let packet = UserPacket {
        payload: vec![0; len],
        ..Default::default()
    };
    DataPacket {
        destination_identities: names.iter().map(|&name| name.to_owned()).collect(),
        value: Some(data_packet::Value::User(packet)),
        ..Default::default()
    }
}

#[test]
fn whoever_sends_to_those_who_are_behind_waits_until_one_of_them_has_caught_up() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.lag(scene.carol, true);
    assert!(!scene.is_held(), "it has said nothing");
    scene.lab.commands.clear();
    scene.tell(&[]);
    assert!(scene.is_held());
    // What had left it before it was held goes on.
    scene.tell(&[]);
    let sent = delivered(&mut scene.lab);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].0, [scene.bob, scene.carol]);
    scene.lag(scene.carol, false);
    assert!(!scene.is_held());
    scene.tell(&[]);
    assert!(!scene.is_held(), "Carol would wait for Bob");
    scene.tell(&["bob"]);
    assert!(scene.is_held());
}

#[test]
fn a_slow_reader_holds_nobody_up_while_a_faster_one_listens() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    for _ in 0..3 {
        scene.tell(&[]);
        scene.tell(&["bob", "carol"]);
    }
    assert!(!scene.is_held());
}

#[test]
fn lossy_messages_hold_nobody_up() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.lag(scene.carol, true);
    let id = scene.alice;
    let packet = message(&[], 0);
    scene.lab.event(Event::Data {
        id,
        channel: Channel::Lossy,
        payload: packet.encode_to_vec().into(),
    });
    assert!(!scene.is_held());
}

#[test]
fn who_has_others_to_talk_to_waits_five_seconds_at_most_and_not_again_for_the_same_reader() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.tell(&["bob"]);
    scene.lab.wait(Duration::from_millis(4_900));
    assert!(scene.is_held());
    scene.lab.wait(Duration::from_millis(200));
    assert!(!scene.is_held());
    scene.tell(&["bob"]);
    assert!(!scene.is_held());
    scene.lag(scene.bob, false);
    scene.lag(scene.bob, true);
    scene.tell(&["bob"]);
    assert!(scene.is_held());
}

#[test]
fn who_has_nobody_else_to_talk_to_waits_longer_and_until_somebody_comes() {
    let mut scene = Scene::new();
    let carol = scene.carol;
    scene.lab.event(Event::Closed { id: carol });
    scene.lab.wait(Duration::from_secs(4));
    scene.lag(scene.bob, true);
    scene.tell(&[]);
    scene.lab.wait(Duration::from_secs(29));
    assert!(scene.is_held());
    scene.lab.wait(Duration::from_secs(2));
    assert!(!scene.is_held(), "thirty seconds are enough");
    scene.lag(scene.bob, false);
    scene.lag(scene.bob, true);
    scene.tell(&[]);
    scene.lab.wait(Duration::from_secs(6));
    assert!(scene.is_held());
    scene.lab.join("dave");
    scene.lab.connect();
    scene.lab.wait(Duration::from_secs(6));
    assert!(!scene.is_held());
}

#[test]
fn whoever_was_given_up_on_keeps_nobody_from_waiting_for_the_others() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.tell(&["bob"]);
    scene.lab.wait(Duration::from_secs(6));
    assert!(!scene.is_held());
    scene.tell(&[]);
    assert!(!scene.is_held(), "Carol keeps up");
    scene.lag(scene.carol, true);
    scene.tell(&[]);
    assert!(scene.is_held());
    scene.lag(scene.carol, false);
    assert!(!scene.is_held());
}

#[test]
fn those_who_wait_for_one_reader_go_on_one_after_the_other() {
    let mut scene = Scene::new();
    let (alice, bob, carol) = (scene.alice, scene.bob, scene.carol);
    scene.lag(bob, true);
    let packet = message(&["bob"], 0);
    send(&mut scene.lab, carol, &packet);
    send(&mut scene.lab, alice, &packet);
    let held = |scene: &Scene| [carol, alice].map(|id| scene.lab.workers.held.contains(&id));
    assert_eq!(held(&scene), [true, true]);
    scene.lag(bob, false);
    assert_eq!(held(&scene), [false, true]);
    scene.lab.wait(Duration::from_millis(60));
    assert_eq!(held(&scene), [false, false]);
    // The second one waits on if the first has filled it again.
    scene.lag(bob, true);
    send(&mut scene.lab, carol, &packet);
    send(&mut scene.lab, alice, &packet);
    scene.lag(bob, false);
    scene.lag(bob, true);
    scene.lab.wait(Duration::from_millis(60));
    assert_eq!(held(&scene), [false, true]);
}

/// Alice alone, and a message of hers.
fn flood() -> (Lab, TransportId, DataPacket) {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    (lab, alice, message(&[], 15_000))
}

#[test]
fn a_flood_waits_for_a_newcomer_that_gets_all_of_it() {
    let (mut lab, alice, packet) = flood();
    lab.join("bob");
    let mut sent = 0;
    // And what a worker reads before it hears that it should not.
    for _ in 0..18 + 64 {
        send(&mut lab, alice, &packet);
        sent += 1;
    }
    assert!(lab.workers.held.contains(&alice));
    lab.wait(Duration::from_secs(2));
    assert!(delivered(&mut lab).is_empty());
    let bob = lab.connect();
    let got = delivered(&mut lab);
    assert!(lab.workers.held.contains(&alice), "it has got a lot");
    lab.wait(Duration::from_millis(60));
    assert!(!lab.workers.held.contains(&alice));
    assert!(got.iter().all(|(to, _)| *to == [bob]));
    assert_eq!(got.len(), sent);
}

#[test]
fn who_floods_waits_for_newcomers_and_nobody_else_does() {
    let (mut lab, alice, packet) = flood();
    lab.join("carol");
    let carol = lab.connect();
    lab.join("bob");
    for _ in 0..40 {
        send(&mut lab, alice, &packet);
    }
    send(&mut lab, carol, &packet);
    assert!(lab.workers.held.contains(&alice));
    assert!(!lab.workers.held.contains(&carol));
}

#[test]
fn nobody_waits_for_itself_or_for_those_who_come_after_a_flood() {
    let mut lab = Lab::new();
    lab.join("bob");
    lab.join("alice");
    let alice = *lab.opened.last().unwrap();
    let packet = flood().2;
    for _ in 0..19 {
        send(&mut lab, alice, &packet);
    }
    // Bob has to get it, and Alice has no channel either.
    assert_eq!(lab.room.holds.list().next().unwrap().2.len(), 1);
    lab.wait(Duration::from_secs(6));
    assert!(lab.workers.held.is_empty());
    lab.join("carol");
    send(&mut lab, alice, &packet);
    assert!(lab.workers.held.is_empty(), "Carol gets one message");
}

#[test]
fn what_was_kept_for_somebody_who_left_holds_nobody_up() {
    let (mut lab, alice, packet) = flood();
    lab.join("bob");
    let bob = *lab.opened.last().unwrap();
    for _ in 0..40 {
        send(&mut lab, alice, &packet);
    }
    lab.event(Event::Closed { id: bob });
    lab.wait(Duration::from_secs(4));
    assert!(!lab.room.identities.contains_key("bob"));
    assert!(lab.workers.held.is_empty());
    lab.join("carol");
    lab.commands.clear();
    lab.connect();
    assert!(delivered(&mut lab).is_empty());
}

#[test]
fn nobody_waits_long_for_somebody_who_opens_no_channel() {
    let (mut lab, alice, packet) = flood();
    lab.join("bob");
    for _ in 0..20 {
        send(&mut lab, alice, &packet);
    }
    assert!(lab.workers.held.contains(&alice));
    lab.wait(Duration::from_millis(5_100));
    assert!(!lab.workers.held.contains(&alice));
    send(&mut lab, alice, &packet);
    assert!(!lab.workers.held.contains(&alice));
}

#[test]
fn nobody_waits_for_a_reader_that_has_gone() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.tell(&["bob"]);
    assert!(scene.is_held());
    let bob = scene.bob;
    scene.lab.event(Event::Closed { id: bob });
    scene.lab.wait(Duration::from_secs(4));
    assert!(!scene.lab.room.identities.contains_key("bob"));
    assert!(!scene.is_held());
}

#[test]
fn whoever_is_moved_is_read_from_in_its_new_room() {
    let mut scene = Scene::new();
    scene.lag(scene.bob, true);
    scene.tell(&["bob"]);
    assert!(scene.is_held());
    scene.lab.lets_go("alice");
    assert!(!scene.is_held());
}
