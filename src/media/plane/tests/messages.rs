//! Messages of data channels: that they pass, when they leave, and what the room is told.

use super::*;

#[test]
fn messages_pass_both_ways() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let message = Bytes::from_static(b"hello");
    lab.send_data(0, Channel::Reliable, &message);
    lab.run(ms(200));
    let came = lab.events.iter().any(|(id, event)| {
        *id == TransportId(1)
            && matches!(event, Event::Data { channel: Channel::Reliable, payload, .. } if *payload == message)
    });
    assert!(came, "{:?}", lab.events);
    lab.command(
        0,
        Command::SendData {
            to: vec![TransportId(1), TransportId(2), TransportId(9)],
            channel: Channel::Lossy,
            payload: message.clone(),
        },
    );
    lab.run(ms(200));
    for person in &lab.people {
        assert_eq!(person.messages.as_slice(), std::slice::from_ref(&message));
    }
}

#[test]
fn the_room_is_told_once_when_it_can_send_and_never_where_it_does_not() {
    let mut lab = Lab::new(1, 1, &[]);
    lab.join(0, DataChannels::Theirs);
    lab.join(0, DataChannels::TheirsAlone);
    lab.run(ms(1_500));
    let count = |id, is_it: fn(&Event) -> bool| {
        let mine = lab.events.iter().filter(|(to, _)| *to == TransportId(id));
        mine.filter(|(_, event)| is_it(event)).count()
    };
    for id in [1, 2] {
        assert_eq!(
            count(id, |event| matches!(event, Event::Connected { .. })),
            1
        );
    }
    let opened = |id| count(id, |event| matches!(event, Event::ChannelOpen { .. }));
    assert_eq!([opened(1), opened(2)], [1, 0]);

    // Not that its channels did not open.
    lab.send_data(1, Channel::Reliable, &Bytes::from_static(b"heard"));
    lab.run(ms(200));
    let heard = lab.events.iter().any(|(id, event)| {
        *id == TransportId(2) && matches!(event, Event::Data { payload, .. } if payload == "heard")
    });
    assert!(heard);
}

#[test]
fn messages_that_come_together_leave_together() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let mut out = Outbox::default();
    let now = lab.now;
    for number in 0..64 {
        let to = vec![TransportId(2)];
        let (channel, payload) = (Channel::Reliable, Bytes::from(vec![number; 20]));
        let command = Command::SendData {
            to,
            channel,
            payload,
        };
        lab.planes[0].handle_command(now, command, &mut out);
    }
    assert_eq!(out.0.len(), 0);
    lab.planes[0].finish_batch(now, &mut out);
    // 2,304 bytes with what SCTP adds; the last may wait for an answer.
    assert!((2..=3).contains(&out.0.len()), "{}", out.0.len());
}

#[test]
fn a_message_before_the_close_arrives_though_both_are_asked_for_at_once() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let message = Bytes::from_static(b"farewell");
    let mut out = Outbox::default();
    let to = TransportId(2);
    for command in [
        Command::SendData {
            to: vec![to],
            channel: Channel::Reliable,
            payload: message.clone(),
        },
        Command::CloseTransport { id: to },
    ] {
        lab.planes[0].handle_command(lab.now, command, &mut out);
    }
    lab.planes[0].finish_batch(lab.now, &mut out);
    lab.collect_plane(0, out);
    lab.run(ms(200));
    assert_eq!(lab.people[1].messages, [message]);
}
