#!/usr/bin/env python3
"""Two participants in a call, both on aiortc; one JSON summary on standard output.

aiortc shares no code with the other clients here: its ICE, SCTP and SDP are its own, its DTLS is OpenSSL's. It speaks
LiveKit's signalling with protobuf and two peer connections. With `--certificate rsa` its certificates are like those of
GStreamer and of small devices, with `--protocol 1` it is as old as LiveKit's SDK for the ESP32 says it is.

Each sends stamped pictures (stamp.py), a tone and numbered messages, and takes the other's.
Exit status: 0 good, 1 something fell short (see "problems"), 2 a client could not connect.
"""

import asyncio
import datetime
import fractions
import json
import time

import aiohttp
import aiortc
import numpy as np
from aiortc.sdp import candidate_from_sdp
from av import AudioFrame, VideoFrame
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from livekit.protocol import models, rtc

import session
import stamp

ap = session.parser(__doc__)
ap.add_argument("-n", "--seconds", type=float, default=8, help="of the call")
ap.add_argument("--certificate", choices=["ecdsa", "rsa"], default="ecdsa")
ap.add_argument("--protocol", type=int, default=16, help="2 or less: data comes by the publisher connection")
ap.add_argument("--fps", type=int, default=15)
args = ap.parse_args()
WIDTH, HEIGHT = 320, 180


class RsaCertificate(aiortc.RTCCertificate):
    @classmethod
    def generateCertificate(cls):
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "device")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=30))
        return cls(key, builder.sign(key, hashes.SHA256()))


if args.certificate == "rsa":
    import aiortc.rtcpeerconnection

    aiortc.rtcpeerconnection.RTCCertificate = RsaCertificate


class Camera(aiortc.VideoStreamTrack):
    def __init__(self, number):
        super().__init__()
        self.number, self.sent, self.start = number, 0, time.monotonic()

    async def recv(self):
        self.sent += 1
        await asyncio.sleep(max(0, self.start + self.sent / args.fps - time.monotonic()))
        shade = np.tile(np.arange(WIDTH, dtype=np.uint8) // 4 + self.sent % 100 + 60, (HEIGHT * 3 // 2, 1))
        shade[HEIGHT:] = 128
        stamp.write(shade[:HEIGHT], self.number)
        frame = VideoFrame.from_ndarray(shade, "yuv420p")
        frame.pts, frame.time_base = self.sent * 90000 // args.fps, fractions.Fraction(1, 90000)
        return frame


class Microphone(aiortc.AudioStreamTrack):
    def __init__(self):
        super().__init__()
        self.sent, self.start = 0, time.monotonic()

    async def recv(self):
        await asyncio.sleep(max(0, self.start + self.sent / 48000 - time.monotonic()))
        wave = 8000 * np.sin(2 * np.pi * 440 * (self.sent + np.arange(960)) / 48000)
        frame = AudioFrame.from_ndarray(wave.astype(np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self.sent, fractions.Fraction(1, 48000)
        self.sent += 960
        return frame


class Participant:
    def __init__(self, http, number):
        self.http, self.number, self.identity = http, number, f"aiortc-{number}"
        # The STUN server that it would ask by default cannot be had.
        direct = aiortc.RTCConfiguration(iceServers=[])
        self.publisher, self.subscriber = aiortc.RTCPeerConnection(direct), aiortc.RTCPeerConnection(direct)
        self.tasks, self.early = [], {}
        self.answered, self.published, self.ready = asyncio.Event(), {}, asyncio.Event()
        self.frames, self.others, self.loud, self.messages = 0, 0, 0, []
        self.latest = None  # age of the oldest picture, ms

        @self.subscriber.on("track")
        def _(track):
            self.tasks.append(asyncio.create_task(self.watch(track) if track.kind == "video" else self.listen(track)))

        self.subscriber.on("datachannel", lambda channel: channel.on("message", lambda data: self.take(channel, data)))

    async def join(self):
        url = f"{args.url}/rtc?protocol={args.protocol}&sdk=other&auto_subscribe=1&access_token={session.token(args, self.identity)}"
        self.socket = await self.http.ws_connect(url)
        first = rtc.SignalResponse.FromString((await self.socket.receive()).data)
        assert first.WhichOneof("message") == "join", first
        self.tasks.append(asyncio.create_task(self.read()))
        self.camera, self.microphone = Camera(self.number), Microphone()
        tracks = [
            (self.camera, models.TrackType.VIDEO, models.TrackSource.CAMERA),
            (self.microphone, models.TrackType.AUDIO, models.TrackSource.MICROPHONE),
        ]
        for track, kind, source in tracks:
            self.publisher.addTrack(track)
            request = rtc.AddTrackRequest(cid=track.id, name=track.kind, type=kind, source=source)
            if track.kind == "video":
                request.width, request.height = WIDTH, HEIGHT
            await self.send(add_track=request)
        self.reliable = self.publisher.createDataChannel("_reliable")
        self.reliable.on("open", self.ready.set)
        self.reliable.on("message", lambda data: self.take(self.reliable, data))
        while len(self.published) < len(tracks):
            await asyncio.sleep(0.01)
        await self.publisher.setLocalDescription(await self.publisher.createOffer())
        offer = self.publisher.localDescription
        await self.send(offer=rtc.SessionDescription(type="offer", sdp=offer.sdp))
        await self.answered.wait()
        await self.ready.wait()

    async def send(self, **request):
        await self.socket.send_bytes(rtc.SignalRequest(**request).SerializeToString())

    async def read(self):
        async for message in self.socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                await self.handle(rtc.SignalResponse.FromString(message.data))

    async def handle(self, response):
        kind = response.WhichOneof("message")
        if kind == "track_published":
            self.published[response.track_published.cid] = response.track_published.track.sid
        elif kind == "answer":
            await self.describe(rtc.SignalTarget.PUBLISHER, response.answer)
            self.answered.set()
        elif kind == "offer":
            if args.protocol <= 2:
                assert "m=application" not in response.offer.sdp, "the offer holds data channels"
            # What comes into a connection that is still being made, aiortc does not receive.
            while self.subscriber.connectionState == "connecting":
                await asyncio.sleep(0.01)
            await self.describe(rtc.SignalTarget.SUBSCRIBER, response.offer)
            await self.subscriber.setLocalDescription(await self.subscriber.createAnswer())
            answer = self.subscriber.localDescription
            await self.send(answer=rtc.SessionDescription(type="answer", sdp=answer.sdp, id=response.offer.id))
        elif kind == "trickle":
            await self.candidate(response.trickle)

    async def describe(self, target, description):
        await self.connection(target).setRemoteDescription(
            aiortc.RTCSessionDescription(type=description.type, sdp=description.sdp)
        )
        for trickle in self.early.pop(target, []):
            await self.candidate(trickle)

    async def candidate(self, trickle):
        connection = self.connection(trickle.target)
        if connection.remoteDescription is None:
            self.early.setdefault(trickle.target, []).append(trickle)
            return
        init = json.loads(trickle.candidateInit)
        if init["candidate"]:
            candidate = candidate_from_sdp(init["candidate"].removeprefix("candidate:"))
            candidate.sdpMLineIndex = init["sdpMLineIndex"]
            await connection.addIceCandidate(candidate)

    def connection(self, target):
        return self.publisher if target == rtc.SignalTarget.PUBLISHER else self.subscriber

    def take(self, channel, data):
        packet = models.DataPacket.FromString(data)
        if packet.WhichOneof("value") == "user":
            self.messages.append((channel.label, packet.participant_identity, int(packet.user.payload)))

    async def watch(self, track):
        while True:
            picture = (await track.recv()).to_ndarray(format="yuv420p")
            read = stamp.read(picture[: picture.shape[0] * 2 // 3])
            if read is None:
                continue
            self.frames += read[0] != self.number
            self.others += read[0] == self.number
            self.latest = max(self.latest or 0, stamp.age_ms(read[1]))

    async def listen(self, track):
        while True:
            frame = await track.recv()
            self.loud += int(np.abs(frame.to_ndarray()).max() > 2000)

    async def talk(self):
        for number in range(int(args.seconds * 10)):
            user = models.UserPacket(payload=str(number).encode(), topic="numbers")
            self.reliable.send(models.DataPacket(kind=models.DataPacket.RELIABLE, user=user).SerializeToString())
            await asyncio.sleep(0.1)

    async def leave(self):
        await self.send(leave=rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED))
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(self.publisher.close(), self.subscriber.close(), self.socket.close())


def judge(one, other):
    wanted = [("_reliable", other.identity, number) for number in range(int(args.seconds * 10))]
    checks = [
        (one.frames >= 0.7 * args.fps * args.seconds, f"{one.frames} pictures of {args.seconds} s"),
        (one.others == 0, f"{one.others} pictures of its own"),
        (one.loud >= 0.7 * 50 * args.seconds, f"{one.loud} loud pieces of audio of {args.seconds} s"),
        (one.messages == wanted, f"{len(one.messages)} messages of {len(wanted)}, not all or not in order"),
    ]
    return [f"{one.identity}: {problem}" for good, problem in checks if not good]


async def main():
    async with aiohttp.ClientSession() as http:
        pair = [Participant(http, 1), Participant(http, 2)]
        try:
            # One after the other, so that the second finds tracks in the room.
            for one in pair:
                await asyncio.wait_for(one.join(), 15)
        except Exception as e:
            print(json.dumps(dict(problems=[f"{type(e).__name__}: {e}"])))
            return 2
        await asyncio.sleep(1)
        await asyncio.gather(*(one.talk() for one in pair))
        await asyncio.sleep(0.5)
        problems = judge(pair[0], pair[1]) + judge(pair[1], pair[0])
        figures = [
            dict(pictures=one.frames, oldest_ms=one.latest, loud=one.loud, messages=len(one.messages)) for one in pair
        ]
        await asyncio.gather(*(one.leave() for one in pair))
    print(json.dumps(dict(problems=problems, participants=figures)))
    return 1 if problems else 0


session.run(main)
