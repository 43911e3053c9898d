#!/usr/bin/env python3
"""Every RoomService call of livekit-api, with two participants in the room; one JSON summary."""

import asyncio
import json

import aiohttp
from livekit import api, rtc

import session

args = session.parser(__doc__).parse_args()
problems = []


def check(good, problem):
    if not good:
        problems.append(problem)


def equal(what, got, want):
    check(got == want, f"{what} is {got!r}, not {want!r}")


async def refused(what, call, status, code):
    try:
        await call
        problems.append(f"{what} was not refused")
    except api.TwirpError as e:
        equal(what, (e.status, e.code), (status, code))


async def soon(probe, limit=5):
    for _ in range(int(limit / 0.05)):
        if probe():
            return True
        await asyncio.sleep(0.05)
    return False


async def comes(remote, wanted):
    """Whether packets of any of their tracks come, or end to come, within five seconds."""

    async def packets():
        tracks = [p.track for p in remote.track_publications.values() if p.track]
        stats = [s for track in tracks for s in await track.get_stats()]
        return sum(s.inbound_rtp.received.packets_received for s in stats if s.WhichOneof("stats") == "inbound_rtp")

    for _ in range(10):
        before = await packets()
        await asyncio.sleep(0.5)
        if (await packets() > before) == wanted:
            return True
    return False


async def rooms(service):
    made = await service.create_room(
        api.CreateRoomRequest(name=args.room, empty_timeout=60, departure_timeout=5, max_participants=3, metadata="m0")
    )
    equal("CreateRoom", (made.name, made.empty_timeout, made.departure_timeout), (args.room, 60, 5))
    equal("CreateRoom", (made.max_participants, made.metadata, made.num_participants), (3, "m0", 0))
    check(made.sid.startswith("RM_") and made.turn_password, f"CreateRoom answered {made}")
    again = await service.create_room(api.CreateRoomRequest(name=args.room))
    equal("the room made again", (again.sid, again.metadata), (made.sid, "m0"))
    await service.create_room(api.CreateRoomRequest(name="other"))
    listed = await service.list_rooms(api.ListRoomsRequest())
    equal("ListRooms", sorted(r.name for r in listed.rooms), sorted([args.room, "other"]))
    listed = await service.list_rooms(api.ListRoomsRequest(names=["other"]))
    equal("ListRooms of a name", [r.name for r in listed.rooms], ["other"])
    await service.delete_room(api.DeleteRoomRequest(room="other"))
    await refused("DeleteRoom of nothing", service.delete_room(api.DeleteRoomRequest(room="other")), 404, "not_found")
    changed = await service.update_room_metadata(api.UpdateRoomMetadataRequest(room=args.room, metadata="m2"))
    equal("UpdateRoomMetadata", changed.metadata, "m2")


async def join(identity):
    room = rtc.Room()
    room.got, room.why = [], []
    room.on("data_received", lambda packet: room.got.append((packet.topic, packet.data)))
    room.on("disconnected", lambda reason: room.why.append(reason))
    await asyncio.wait_for(room.connect(args.url, session.token(args, identity), session.options(args)), 15)
    return room


async def play(source, frame):
    while True:
        await source.capture_frame(frame)


async def people(service, alice, bob):
    source = rtc.AudioSource(48_000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    await alice.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
    frame = rtc.AudioFrame.create(48_000, 1, 480)
    sound = asyncio.create_task(play(source, frame))
    who = api.RoomParticipantIdentity(room=args.room, identity="alice")
    for _ in range(100):
        info = await service.get_participant(who)
        if info.tracks and info.state == api.ParticipantInfo.State.ACTIVE:
            break
        await asyncio.sleep(0.05)
    here = await service.list_participants(api.ListParticipantsRequest(room=args.room))
    equal("ListParticipants", sorted(p.identity for p in here.participants), ["alice", "bob"])
    equal("GetParticipant", (info.identity, info.state, info.is_publisher), ("alice", api.ParticipantInfo.State.ACTIVE, True))
    equal("her tracks", [(t.name, t.type) for t in info.tracks], [("tone", api.TrackType.AUDIO)])
    nobody = api.RoomParticipantIdentity(room=args.room, identity="zoe")
    await refused("GetParticipant of nobody", service.get_participant(nobody), 404, "not_found")
    sid = info.tracks[0].sid

    changed = await service.update_participant(
        api.UpdateParticipantRequest(room=args.room, identity="alice", metadata="pm", name="Al", attributes={"z": "1"})
    )
    equal("UpdateParticipant", (changed.metadata, changed.name, dict(changed.attributes)), ("pm", "Al", {"z": "1"}))
    remote = bob.remote_participants["alice"]
    await soon(lambda: remote.name == "Al" and remote.metadata == "pm" and remote.attributes)
    equal("alice as bob sees her", (remote.name, remote.metadata, dict(remote.attributes)), ("Al", "pm", {"z": "1"}))

    check(await soon(lambda: any(p.track for p in remote.track_publications.values())), "bob was not given the sound")
    wish = api.UpdateSubscriptionsRequest(room=args.room, identity="bob", track_sids=[sid], subscribe=False)
    await service.update_subscriptions(wish)
    # What the server takes away is no event of this SDK: only the packets tell.
    check(await comes(remote, False), "bob still has the sound")
    wish.subscribe = True
    await service.update_subscriptions(wish)
    check(await comes(remote, True), "bob did not get the sound back")

    mute = api.MuteRoomTrackRequest(room=args.room, identity="alice", track_sid=sid, muted=True)
    muted = await service.mute_published_track(mute)
    equal("MutePublishedTrack", (muted.track.sid, muted.track.muted), (sid, True))
    mute.muted = False
    await refused("unmuting", service.mute_published_track(mute), 412, "failed_precondition")

    await service.send_data(
        api.SendDataRequest(room=args.room, data=b"to bob", kind=api.DataPacket.RELIABLE, topic="x", destination_identities=["bob"])
    )
    await service.send_data(api.SendDataRequest(room=args.room, data=b"to all", kind=api.DataPacket.RELIABLE, topic="y"))
    await soon(lambda: len(bob.got) == 2 and alice.got)
    equal("bob's messages", bob.got, [("x", b"to bob"), ("y", b"to all")])
    equal("alice's messages", alice.got, [("y", b"to all")])

    permission = api.ParticipantPermission(can_publish=False, can_subscribe=True, can_publish_data=True)
    changed = await service.update_participant(
        api.UpdateParticipantRequest(room=args.room, identity="alice", permission=permission)
    )
    check(not changed.permission.can_publish and changed.permission.can_subscribe, f"her permission is {changed.permission}")
    check(await soon(lambda: not remote.track_publications), "alice may not publish and still does")
    sound.cancel()


async def farewells(service, alice, bob):
    await service.remove_participant(api.RoomParticipantIdentity(room=args.room, identity="bob"))
    check(await soon(lambda: bob.why), "bob was not told that he is removed")
    equal("bob's reason", bob.why, [rtc.DisconnectReason.PARTICIPANT_REMOVED])
    gone = api.RoomParticipantIdentity(room=args.room, identity="bob")
    await refused("RemoveParticipant of nobody", service.remove_participant(gone), 404, "not_found")
    await service.delete_room(api.DeleteRoomRequest(room=args.room))
    check(await soon(lambda: alice.why), "alice was not told that the room is deleted")
    equal("alice's reason", alice.why, [rtc.DisconnectReason.ROOM_DELETED])
    equal("ListRooms at the end", len((await service.list_rooms(api.ListRoomsRequest())).rooms), 0)


async def main():
    url = args.url.replace("ws", "http", 1)
    async with aiohttp.ClientSession() as http:
        stranger = api.LiveKitAPI(url, args.key, "x" * 36, session=http)
        try:
            await stranger.room.list_rooms(api.ListRoomsRequest())
            problems.append("a wrong secret was not refused")
        except (api.TwirpError, aiohttp.ClientError) as e:
            equal("a wrong secret", getattr(e, "status", None), 401)
        service = api.LiveKitAPI(url, args.key, args.secret, session=http).room
        await rooms(service)
        alice, bob = await join("alice"), await join("bob")
        await people(service, alice, bob)
        await farewells(service, alice, bob)
    print(json.dumps(dict(problems=problems)), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    session.run(main)
