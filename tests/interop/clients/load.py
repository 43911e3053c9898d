#!/usr/bin/env python3
"""P publishers and S subscribers on LiveKit's Python SDK; one JSON summary on standard output.

Every video frame is stamped (stamp.py); every publisher's tone has its own pitch.
Exit status: 0 every subscriber got every track well; 1 something fell short (see "problems"); 2 a
client could not connect or publish.
"""

import asyncio
import json
import time

import numpy as np
from livekit import rtc

import session
import stamp

ap = session.parser(__doc__)
ap.add_argument("-p", "--publishers", type=int, default=1)
ap.add_argument("-s", "--subscribers", type=int, default=1)
ap.add_argument("-n", "--seconds", type=float, default=10, help="counted seconds, after the warm-up")
ap.add_argument("--warmup", type=float, default=3)
ap.add_argument("--size", default="640x360")
ap.add_argument("--fps", type=int, default=15)
ap.add_argument("--bitrate", type=int, default=600_000)
ap.add_argument("--codec", choices=["vp8", "vp9", "h264", "av1"], default="vp8")
ap.add_argument("--simulcast", action="store_true")
ap.add_argument("--data-hz", type=float, default=0, help="reliable messages a second of each publisher")
ap.add_argument("--join-timeout", type=float, default=30, help="for each client, publishing included")
ap.add_argument("--min-ratio", type=float, default=0.8, help="share of sent frames that must arrive")
ap.add_argument("--max-gap-ms", type=float, default=500, help="longest pause in a video")
args = ap.parse_args()
WIDTH, HEIGHT = map(int, args.size.split("x"))

# A moving pattern: a picture that never changes costs an encoder nothing.
_y, _x = np.mgrid[0:HEIGHT, 0:WIDTH]
PICTURES = [((_x + _y + 8 * k) % 200 + 28).astype(np.uint8) for k in range(25)]
GREY = np.full(WIDTH * HEIGHT // 2, 128, np.uint8)


def pitch(publisher):
    return 400 + 100 * (publisher % 8)


class Publisher:
    def __init__(self, number):
        self.number, self.id = number, f"pub-{number}"
        self.room, self.tasks, self.sent = rtc.Room(), [], 0

    async def start(self):
        t = time.monotonic()
        await self.room.connect(
            args.url, session.token(args, self.id), session.options(args, auto_subscribe=False, connect_timeout=5)
        )
        self.connect_ms = round((time.monotonic() - t) * 1000)
        me = self.room.local_participant
        self.camera = rtc.VideoSource(WIDTH, HEIGHT)
        self.microphone = rtc.AudioSource(48000, 1, queue_size_ms=200)
        self.tasks.append(asyncio.create_task(self.film()))
        video = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA,
            simulcast=args.simulcast,
            video_codec=getattr(rtc.VideoCodec, args.codec.upper()),
            video_encoding=rtc.VideoEncoding(max_bitrate=args.bitrate, max_framerate=args.fps),
        )
        track = rtc.LocalVideoTrack.create_video_track(f"cam-{self.number}", self.camera)
        await asyncio.wait_for(me.publish_track(track, video), 15)
        self.tasks.append(asyncio.create_task(self.hum()))
        audio = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        track = rtc.LocalAudioTrack.create_audio_track(f"mic-{self.number}", self.microphone)
        await asyncio.wait_for(me.publish_track(track, audio), 15)
        if args.data_hz:
            self.tasks.append(asyncio.create_task(self.chat()))

    async def film(self):
        start = time.monotonic()
        while True:
            luma = PICTURES[self.sent % len(PICTURES)].copy()
            stamp.write(luma, self.number)
            frame = rtc.VideoFrame(
                WIDTH, HEIGHT, rtc.VideoBufferType.I420, bytearray(luma.tobytes() + GREY.tobytes())
            )
            self.camera.capture_frame(frame, timestamp_us=int(time.monotonic() * 1e6))
            self.sent += 1
            await asyncio.sleep(max(0, start + self.sent / args.fps - time.monotonic()))

    async def hum(self):
        n, step = 0, 480
        while True:  # 10 ms a frame; capture_frame waits while the source's queue is full
            wave = 8000 * np.sin(2 * np.pi * pitch(self.number) * (n + np.arange(step)) / 48000)
            frame = rtc.AudioFrame.create(48000, 1, step)
            np.frombuffer(frame.data, np.int16)[:] = wave.astype(np.int16)
            await self.microphone.capture_frame(frame)
            n += step

    async def chat(self):
        n = 0
        while True:
            text = json.dumps({"p": self.number, "k": n, "ms": stamp.now_ms()})
            await self.room.local_participant.publish_data(text, reliable=True, topic="load")
            n += 1
            await asyncio.sleep(1 / args.data_hz)

    async def stop(self):
        for t in self.tasks:
            t.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.room.disconnect()


class OwnPauses:
    """When this process itself stood still (a busy machine, a long step of Python): no frame is taken then, whatever
    the server does, so such time is no gap of a video."""

    def __init__(self):
        self.pauses = []

    async def watch(self):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if now - last > 0.1:
                self.pauses.append((last, now))
            last = now

    def within(self, start, end):
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self.pauses)


OWN_PAUSES = OwnPauses()


class Received:
    """One track as a subscriber sees it."""

    def __init__(self, track, publisher):
        self.track, self.publisher = track, publisher
        self.number = int(publisher.split("-")[1])
        self.kind = "video" if track.kind == rtc.TrackKind.KIND_VIDEO else "audio"
        self.subscribed = time.monotonic()
        self.first_ms, self.last = None, None
        self.width = self.height = 0
        self.reset()

    def reset(self):
        self.frames = self.wrong = self.unreadable = 0
        self.gaps, self.ages, self.pitches, self.loudness = [], [], [], []

    def arrived(self):
        t = time.monotonic()
        if self.first_ms is None:
            self.first_ms = round((t - self.subscribed) * 1000)
        if self.last is not None:
            self.gaps.append((self.last, t))
        self.last = t
        self.frames += 1

    def longest_gap_ms(self):
        """Without our own pauses, which are known only now: a pause ends before it is noticed."""
        return round(1000 * max((b - a - OWN_PAUSES.within(a, b) for a, b in self.gaps), default=0.0))

    def take_video(self, frame):
        self.arrived()
        self.width, self.height = frame.width, frame.height
        luma = np.frombuffer(frame.data, np.uint8, frame.width * frame.height)
        mark = stamp.read(luma.reshape(frame.height, frame.width))
        if mark is None:
            self.unreadable += 1
        elif mark[0] != self.number & 63:
            self.wrong += 1
        else:
            self.ages.append(stamp.age_ms(mark[1]))

    def take_audio(self, frame):
        self.arrived()
        if self.frames % 10:
            return
        wave = np.frombuffer(frame.data, np.int16).astype(np.float32)
        self.loudness.append(float(np.sqrt((wave * wave).mean())))
        crossings = int(((wave[1:] >= 0) != (wave[:-1] >= 0)).sum())
        self.pitches.append(crossings * 48000 / (2 * len(wave)))

    def report(self):
        r = dict(publisher=self.publisher, kind=self.kind, frames=self.frames, first_frame_ms=self.first_ms,
                 longest_gap_ms=self.longest_gap_ms())
        if self.kind == "video":
            r.update(w=self.width, h=self.height, age_p50_ms=percentile(self.ages, 50),
                     age_p95_ms=percentile(self.ages, 95), wrong=self.wrong, unreadable=self.unreadable)
        else:
            r.update(pitch=percentile(self.pitches, 50), loudness=percentile(self.loudness, 50))
        return r

    def problems(self, sent):
        if self.kind == "video":
            if self.frames < args.min_ratio * sent:
                yield f"{self.frames} of {sent} frames of {self.publisher}"
            if self.wrong:
                yield f"{self.wrong} frames under {self.publisher}'s name are another's"
            if self.unreadable > self.frames / 10:
                yield f"{self.unreadable} of {self.frames} frames of {self.publisher} cannot be read"
            if self.longest_gap_ms() > args.max_gap_ms:
                yield f"{self.publisher}'s video stood still for {self.longest_gap_ms()} ms"
        elif not self.loudness or percentile(self.loudness, 50) < 500:
            yield f"{self.publisher}'s audio is silent or absent"
        elif abs(percentile(self.pitches, 50) - pitch(self.number)) > 60:
            yield f"{self.publisher}'s tone is {percentile(self.pitches, 50)} Hz, not {pitch(self.number)}"


class Subscriber:
    def __init__(self, number):
        self.id, self.room = f"sub-{number}", rtc.Room()
        self.tracks, self.streams, self.tasks, self.messages, self.events = {}, [], [], {}, {}

    async def start(self):
        room = self.room

        @room.on("track_subscribed")
        def _(track, publication, who):
            received = self.tracks[track.sid] = Received(track, who.identity)
            self.tasks.append(asyncio.create_task(self.watch(received)))

        @room.on("data_received")
        def _(packet):
            sender = packet.participant.identity if packet.participant else "?"
            self.messages[sender] = self.messages.get(sender, 0) + 1

        @room.on("track_subscription_failed")
        def _(who, sid, error):
            self.events[f"subscription of {sid} failed"] = str(error)

        for event in ("track_unsubscribed", "reconnecting", "reconnected", "disconnected"):
            room.on(event, lambda *_, event=event: self.count(event))
        t = time.monotonic()
        await room.connect(
            args.url, session.token(args, self.id, publish=False), session.options(args, auto_subscribe=True, connect_timeout=5)
        )
        self.connect_ms = round((time.monotonic() - t) * 1000)

    def count(self, event):
        self.events[event] = self.events.get(event, 0) + 1

    async def watch(self, received):
        if received.kind == "video":
            stream = rtc.VideoStream(received.track, capacity=8, format=rtc.VideoBufferType.I420)
        else:
            stream = rtc.AudioStream(received.track, sample_rate=48000, num_channels=1, capacity=50)
        self.streams.append(stream)
        async for event in stream:
            (received.take_video if received.kind == "video" else received.take_audio)(event.frame)

    def reset(self):
        self.messages.clear()
        for track in self.tracks.values():
            track.reset()

    def problems(self, publishers, sent):
        for publisher in publishers:
            mine = [t for t in self.tracks.values() if t.publisher == publisher.id]
            for kind in ("video", "audio"):
                if kind not in {t.kind for t in mine}:
                    yield f"no {kind} track of {publisher.id}"
            for track in mine:
                yield from track.problems(sent[publisher.id])
            arrived = self.messages.get(publisher.id, 0)
            if arrived < args.min_ratio * args.data_hz * args.seconds:
                yield f"{arrived} messages of {publisher.id}"
        for event in ("reconnecting", "disconnected"):
            if event in self.events:
                yield event

    async def stop(self):
        await asyncio.gather(*(asyncio.wait_for(s.aclose(), 3) for s in self.streams), return_exceptions=True)
        for t in self.tasks:
            t.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.room.disconnect()


def percentile(values, q):
    return round(float(np.percentile(values, q)), 1) if values else None


async def measure(publishers, subscribers):
    watching = asyncio.create_task(OWN_PAUSES.watch())
    for publisher in publishers:
        await asyncio.wait_for(publisher.start(), args.join_timeout)
    await asyncio.sleep(0.5)  # a simulcast track is announced when its first packet comes
    for subscriber in subscribers:
        await asyncio.wait_for(subscriber.start(), args.join_timeout)
    await asyncio.sleep(args.warmup)
    for s in subscribers:
        s.reset()
    before = {p.id: p.sent for p in publishers}
    await asyncio.sleep(args.seconds)
    sent = {p.id: p.sent - before[p.id] for p in publishers}
    watching.cancel()
    return dict(
        sent=sent,
        own_pauses_ms=[round(1000 * (b - a)) for a, b in OWN_PAUSES.pauses],
        connect_ms={c.id: c.connect_ms for c in publishers + subscribers},
        received={
            s.id: dict(tracks=[t.report() for t in s.tracks.values()], messages=s.messages, events=s.events)
            for s in subscribers
        },
        problems=[f"{s.id}: {text}" for s in subscribers for text in s.problems(publishers, sent)],
    )


async def main():
    publishers = [Publisher(i) for i in range(args.publishers)]
    subscribers = [Subscriber(i) for i in range(args.subscribers)]
    status = 2
    try:
        out = await measure(publishers, subscribers)
        status = 1 if out["problems"] else 0
    except Exception as e:
        out = dict(problems=[f"{type(e).__name__}: {e}"])
    print(json.dumps(out, indent=1), flush=True)
    clients = [c for c in publishers + subscribers if c.room.isconnected()]
    await asyncio.wait_for(asyncio.gather(*(c.stop() for c in clients), return_exceptions=True), 15)
    return status


if __name__ == "__main__":
    session.run(main)
