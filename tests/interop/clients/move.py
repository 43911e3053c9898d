#!/usr/bin/env python3
"""Alice is moved from the room of Bob to that of Carol and back; one JSON summary.

All publish sound and noise. After each move those who are together now must hear, see and read each
other, and the third one nobody. Exit status: 0 good, 1 something is missing.
"""

import asyncio
import json

import numpy as np
from livekit import api, rtc

import session

ap = session.parser(__doc__)
ap.add_argument("--limit", type=float, default=10, help="seconds until media flows after a move")
args = ap.parse_args()

WIDTH, HEIGHT = 320, 180


class Person:
    def __init__(self, name, room):
        self.name, self.first = name, room
        self.room = rtc.Room()
        self.got = {}
        self.read = []
        self.events = []
        self.tasks = []
        self.room.on("track_subscribed", lambda track, _, who: self.spawn(self.count(track, who.identity)))
        self.room.on("data_received", lambda packet: self.read.append((packet.participant.identity, packet.data)))
        for event in ("moved", "disconnected", "reconnecting"):
            self.room.on(event, lambda *_, event=event: self.events.append(event))

    def spawn(self, work):
        self.tasks.append(asyncio.ensure_future(work))

    async def count(self, track, who):
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            async for _ in rtc.VideoStream(track):
                self.note(who, "video")
        else:
            async for event in rtc.AudioStream(track):
                if np.frombuffer(event.frame.data, dtype=np.int16).any():
                    self.note(who, "audio")

    def note(self, who, kind):
        self.got[who, kind] = self.got.get((who, kind), 0) + 1

    async def join(self):
        grants = api.VideoGrants(room_join=True, room=self.first)
        token = api.AccessToken(args.key, args.secret).with_identity(self.name).with_grants(grants).to_jwt()
        await asyncio.wait_for(self.room.connect(args.url, token, session.options(args)), 20)
        picture, sound = rtc.VideoSource(WIDTH, HEIGHT), rtc.AudioSource(48000, 1)
        for track in (
            rtc.LocalVideoTrack.create_video_track("camera", picture),
            rtc.LocalAudioTrack.create_audio_track("microphone", sound),
        ):
            await self.room.local_participant.publish_track(track)
        self.spawn(self.film(picture))
        self.spawn(self.hum(sound))

    async def film(self, source):
        shade = 0
        while True:
            shade = (shade + 8) % 256
            data = bytearray([shade]) * (WIDTH * HEIGHT * 4)
            source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, data))
            await asyncio.sleep(1 / 15)

    async def hum(self, source):
        at = np.arange(480)
        while True:
            wave = (np.sin(at * 2 * np.pi * 440 / 48000) * 8000).astype(np.int16)
            at += 480
            await source.capture_frame(rtc.AudioFrame(wave.tobytes(), 48000, 1, 480))

    def meets(self, other):
        return all(self.got.get((other.name, kind), 0) >= 10 for kind in ("audio", "video"))

    async def leave(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.wait_for(self.room.disconnect(), 15)


async def together(one, other, third, problems, step):
    """One and the other are in a room now, the third is alone."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() < start + args.limit and not (one.meets(other) and other.meets(one)):
        await asyncio.sleep(0.05)
    took = round(loop.time() - start, 2)
    for a, b in ((one, other), (other, one)):
        if not a.meets(b):
            problems.append(f"{step}: {a.name} got {a.got} of {b.name}")
        if list(a.room.remote_participants) != [b.name]:
            problems.append(f"{step}: {a.name} sees {list(a.room.remote_participants)}")
    if third.room.remote_participants:
        problems.append(f"{step}: {third.name} sees {list(third.room.remote_participants)}")
    for person in (one, other, third):
        person.got.clear()
        person.read.clear()
    for person in (one, other, third):
        await person.room.local_participant.publish_data(f"{step} {person.name}".encode())
    await asyncio.sleep(0.5)
    if third.got:
        problems.append(f"{step}: {third.name} goes on getting {third.got}")
    for a, b in ((one, other), (other, one)):
        if a.read != [(b.name, f"{step} {b.name}".encode())]:
            problems.append(f"{step}: {a.name} reads {a.read}")
    if third.read:
        problems.append(f"{step}: {third.name} reads {third.read}")
    for person in (one, other, third):
        person.got.clear()
    return took


async def move(lk, room, destination):
    token = api.VideoGrants(room_admin=True, room=room, destination_room=destination)
    token = api.AccessToken(args.key, args.secret).with_grants(token).to_jwt()
    headers = {"Authorization": f"Bearer {token}"}
    body = dict(room=room, identity="alice", destination_room=destination)
    url = args.url.replace("ws", "http", 1) + "/twirp/livekit.RoomService/MoveParticipant"
    async with lk.post(url, json=body, headers=headers) as response:
        return response.status, await response.text()


async def story(problems, figures):
    import aiohttp

    alice, bob, carol = people = [Person("alice", "red"), Person("bob", "red"), Person("carol", "blue")]
    for person in people:
        await person.join()
    await together(alice, bob, carol, problems, "before")
    tracks = sorted(alice.room.local_participant.track_publications)
    async with aiohttp.ClientSession() as lk:
        ways = [("red", "blue", carol, bob), ("blue", "red", bob, carol)]
        for number, (room, destination, other, third) in enumerate(ways, 1):
            answer = await move(lk, room, destination)
            if answer != (200, "{}"):
                problems.append(f"move {number}: {answer}")
            took = await together(alice, other, third, problems, f"move {number}")
            figures[f"seconds until media after move {number}"] = took
            if alice.room.name != destination:
                problems.append(f"move {number}: alice is in {alice.room.name}")
    if alice.events != ["moved", "moved"] or bob.events or carol.events:
        problems.append(f"events: {alice.events} {bob.events} {carol.events}")
    if sorted(alice.room.local_participant.track_publications) != tracks:
        problems.append("alice had to publish anew")
    for person in people:
        await person.leave()


async def main():
    problems, figures = [], {}
    try:
        await story(problems, figures)
    except Exception as e:
        problems.append(f"{type(e).__name__}: {e}")
    print(json.dumps(dict(problems=problems, **figures)), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    session.run(main)
