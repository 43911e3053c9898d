#!/usr/bin/env python3
"""One participant sends a moving picture and numbered messages, another takes down when they arrive.

Runs until its standard input ends, then prints one JSON summary: when frames came (ms since 1970),
how many messages were sent, which arrived, and what the connections said of themselves.
"""

import asyncio
import json
import sys
import time

from livekit import rtc

import session

args = session.parser(__doc__).parse_args()
WIDTH, HEIGHT, FPS = 320, 180, 15
frames, numbers, events = [], [], []


def now():
    return int(time.time() * 1000)


async def join(identity):
    room = rtc.Room()
    for name in ("reconnecting", "reconnected", "disconnected"):
        room.on(name, lambda *_, name=name: events.append((now(), identity, name)))
    await asyncio.wait_for(room.connect(args.url, session.token(args, identity), session.options(args)), 15)
    return room


async def watch(track):
    async for _ in rtc.VideoStream(track):
        frames.append(now())


async def send(room):
    source = rtc.VideoSource(WIDTH, HEIGHT)
    track = rtc.LocalVideoTrack.create_video_track("picture", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
    await room.local_participant.publish_track(track, options)
    n = 0
    while True:
        pixels = bytes([n * 5 % 256]) * (WIDTH * HEIGHT * 4)
        source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, pixels))
        n += 1
        await asyncio.sleep(1 / FPS)


async def count(room, sent):
    n = 0
    while True:
        await asyncio.sleep(0.1)
        n += 1
        try:
            await room.local_participant.publish_data(str(n).encode(), reliable=True)
            sent.append(n)
        except rtc.PublishDataError as e:
            events.append((now(), "alice", f"refused {n}: {e.message}"))


async def main():
    bob = await join("bob")
    watching = []
    bob.on("track_subscribed", lambda track, *_: watching.append(asyncio.create_task(watch(track))))
    bob.on("data_received", lambda packet: numbers.append(int(packet.data)))
    alice = await join("alice")
    sent = []
    tasks = [asyncio.create_task(send(alice)), asyncio.create_task(count(alice, sent))]
    while not frames:
        await asyncio.sleep(0.1)
    print("playing", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    tasks[1].cancel()
    end = time.monotonic() + 10
    while len(numbers) < len(sent) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    print(json.dumps(dict(frames=frames, sent=sent, numbers=numbers, events=events)), flush=True)
    tasks[0].cancel()
    await asyncio.wait_for(asyncio.gather(alice.disconnect(), bob.disconnect()), 15)


session.run(main)
