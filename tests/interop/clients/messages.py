#!/usr/bin/env python3
"""One participant sends numbered messages, another counts them; one JSON summary.

Reliable messages must all arrive, once and in order, within the limit; of lossy ones, sent in
between, a share: of all, or where a receiver's channel may open late, of those that followed the
first that came. Exit status: 0 good, 1 something is missing, 2 a client could not connect.
"""

import asyncio
import json
import time

from livekit import rtc

import session

ap = session.parser(__doc__)
ap.add_argument("-n", "--count", type=int, default=1000, help="messages of each kind")
ap.add_argument("--size", type=int, default=200, help="bytes of a message")
ap.add_argument("--hz", type=float, default=50, help="messages of each kind a second")
ap.add_argument("--limit", type=float, default=60, help="seconds until the last reliable one is there")
ap.add_argument("--min-lossy", type=float, default=0.9, help="share of lossy messages that must arrive")
ap.add_argument("--opening", type=float, default=0, help="seconds that the receiver's channel may take to open")
args = ap.parse_args()


def listen(room, got, done):
    @room.on("data_received")
    def _(packet):
        kind = "reliable" if packet.kind == rtc.DataPacketKind.KIND_RELIABLE else "lossy"
        number = int(packet.data[:8])
        got[kind].append(number)
        if len(packet.data) != args.size or packet.topic != kind or packet.participant.identity != "sender":
            got["odd"].append(number)
        if kind == "reliable" and len(got[kind]) >= args.count:
            done.set()


async def send(room):
    start = time.monotonic()
    for n in range(args.count):
        text = f"{n:08}".encode().ljust(args.size, b".")
        for kind in ("reliable", "lossy"):
            await room.local_participant.publish_data(text, reliable=kind == "reliable", topic=kind)
        await asyncio.sleep(max(0, start + (n + 1) / args.hz - time.monotonic()))


def breaks(numbers):
    """Where the numbers do not follow each other: `before -> after`, and where they begin and end."""
    pairs = [f"{a} -> {b}" for a, b in zip(numbers, numbers[1:]) if b != a + 1]
    return ", ".join([f"from {numbers[0]}", *pairs[:10], f"to {numbers[-1]}"]) if numbers else "none"


async def main():
    got, done = dict(reliable=[], lossy=[], odd=[]), asyncio.Event()
    try:
        receiver = await session.connect(args, "receiver")
        listen(receiver, got, done)
        sender = await session.connect(args, "sender")
    except Exception as e:
        print(json.dumps(dict(problems=[f"{type(e).__name__}: {e}"])))
        return 2
    start = time.monotonic()
    sending = asyncio.create_task(send(sender))
    problems = []
    try:
        await asyncio.wait_for(done.wait(), args.limit)
        await asyncio.sleep(0.5)  # whether one comes twice
    except asyncio.TimeoutError:
        problems.append(f"{len(got['reliable'])} of {args.count} reliable messages in {args.limit} s")
    took = time.monotonic() - start
    sending.cancel()
    if got["reliable"] != list(range(len(got["reliable"]))):
        problems.append(f"reliable messages came out of order, twice, or not at all: {breaks(got['reliable'])}")
    lossy = args.count - min(min(got["lossy"], default=0), int(args.opening * args.hz))
    if len(got["lossy"]) < args.min_lossy * lossy:
        problems.append(f"{len(got['lossy'])} of {lossy} lossy messages")
    if got["odd"]:
        problems.append(f"{len(got['odd'])} messages came with another size, topic or sender")
    figures = dict(reliable=len(got["reliable"]), lossy=len(got["lossy"]), lossy_sent=lossy, seconds=round(took, 1))
    print(json.dumps(dict(problems=problems, **figures)), flush=True)
    await asyncio.wait_for(asyncio.gather(sender.disconnect(), receiver.disconnect()), 15)
    return 1 if problems else 0


if __name__ == "__main__":
    session.run(main)
