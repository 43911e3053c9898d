#!/usr/bin/env python3
"""One participant sends a file to another whose line is thin, while a third one talks to all; one JSON summary.

The file must come whole, its reader must not have to join anew, and what the third one says must
come without a pause. Exit status: 0 good, 1 something is wrong, 2 a client could not connect.
"""

import asyncio
import hashlib
import json
import os
import time

from livekit import rtc

import session

TALK_HZ = 10

ap = session.parser(__doc__)
ap.add_argument("--size", type=float, default=20, help="megabytes of the file")
ap.add_argument("--to-all", action="store_true", help="the file is for everybody, and nobody else is there")
ap.add_argument("--limit", type=float, default=60, help="seconds until the file is there")
ap.add_argument("--max-pause", type=float, default=1.0, help="seconds between what the third one says, as the fourth hears it")
args = ap.parse_args()


async def send(room, file):
    to = None if args.to_all else ["reader"]
    writer = await room.local_participant.stream_bytes(
        "file", topic="file", total_size=len(file), destination_identities=to
    )
    for at in range(0, len(file), 15_000):
        await writer.write(file[at : at + 15_000])
    await writer.aclose()


def receive(room):
    """What came, as a future."""
    came = asyncio.get_running_loop().create_future()

    async def read(reader):
        data = bytearray()
        async for chunk in reader:
            data += chunk
        came.set_result(data)

    # The loop holds its tasks weakly.
    tasks = []
    room.register_byte_stream_handler("file", lambda reader, _: tasks.append(asyncio.create_task(read(reader))))
    return came


async def talk(room):
    while True:
        await room.local_participant.publish_data(b"talk", reliable=True, topic="talk")
        await asyncio.sleep(1 / TALK_HZ)


def listen(room, heard):
    @room.on("data_received")
    def _(packet):
        if packet.topic == "talk":
            heard.append(time.monotonic())


async def main():
    rooms, heard, rejoins = [], [], []
    others = [] if args.to_all else ["talker", "listener"]
    try:
        for identity in ["sender", "reader", *others]:
            rooms.append(await session.connect(args, identity))
    except Exception as e:
        print(json.dumps(dict(problems=[f"{type(e).__name__}: {e}"])))
        return 2
    sender, reader, *others = rooms
    reader.on("reconnecting", lambda: rejoins.append("reconnecting"))
    reader.on("disconnected", lambda reason: rejoins.append(f"disconnected {reason}"))
    came = receive(reader)
    tasks = []
    if others:
        talker, listener = others
        listen(listener, heard)
        tasks.append(asyncio.create_task(talk(talker)))
        await asyncio.sleep(1)
    file = os.urandom(int(args.size * 1e6))
    problems = []
    start = time.monotonic()
    tasks.append(asyncio.create_task(send(sender, file)))
    try:
        data = await asyncio.wait_for(came, args.limit)
        if hashlib.sha256(data).digest() != hashlib.sha256(file).digest():
            problems.append(f"{len(data)} bytes came of {len(file)}, or others")
    except asyncio.TimeoutError:
        problems.append(f"the file was not there after {args.limit} s")
    took = time.monotonic() - start
    heard.append(time.monotonic())
    for task in tasks:
        if task.done() and task.exception():
            problems.append(f"{type(task.exception()).__name__}: {task.exception()}")
        task.cancel()
    if rejoins:
        problems.append(f"the reader lost its connection: {rejoins}")
    pause = max((b - a for a, b in zip(heard, heard[1:])), default=took) if others else None
    if pause is not None and pause > args.max_pause:
        problems.append(f"for {pause:.1f} s nothing was heard of the third one")
    figures = dict(megabits=round(8 * args.size / took, 1), seconds=round(took, 1), pause=pause and round(pause, 2))
    print(json.dumps(dict(problems=problems, **figures)), flush=True)
    await asyncio.wait_for(asyncio.gather(*(room.disconnect() for room in rooms)), 15)
    return 1 if problems else 0


if __name__ == "__main__":
    session.run(main)
