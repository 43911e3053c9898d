// Two participants on werift, a WebRTC of its own in TypeScript; one JSON summary. Where the server offers, werift waits
// for it to begin SCTP. Each sends numbered messages and takes the other's. What comes of the tones' packets is counted
// and not judged: werift loses a track now and then, with every server.
//   node clients/werift-pair.mjs URL ROOM MESSAGES
import { AddTrackRequest, DataPacket, DataPacket_Kind, SignalRequest, SignalResponse, SignalTarget, TrackSource, TrackType, UserPacket } from '@livekit/protocol';
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, RtpHeader, RtpPacket } from 'werift';
import WebSocket from 'ws';
import { token } from '../lib/token.mjs';

const [url, room, count] = process.argv.slice(2);
const wanted = Number(count);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const settings = {
  // Nobody is there; without one it would look for a public server.
  iceServers: [{ urls: 'stun:127.0.0.1:3478' }],
  codecs: { audio: [new RTCRtpCodecParameters({ mimeType: 'audio/opus', clockRate: 48000, channels: 2, payloadType: 96 })], video: [] },
};

class Participant {
  constructor(identity) {
    Object.assign(this, { identity, messages: [], packets: 0, early: [] });
    this.publisher = new RTCPeerConnection(settings);
    this.subscriber = new RTCPeerConnection(settings);
    this.subscriber.onTrack.subscribe((track) => track.onReceiveRtp.subscribe(() => { this.packets += 1; }));
    this.subscriber.onDataChannel.subscribe((channel) => { channel.onMessage.subscribe((data) => this.take(data)); });
  }

  async join() {
    this.socket = new WebSocket(`${url}/rtc?protocol=16&auto_subscribe=1&access_token=${await token(this.identity, room)}`);
    this.socket.binaryType = 'arraybuffer';
    // One after the other, as they come.
    let turn = Promise.resolve();
    const joined = new Promise((resolve, reject) => {
      this.socket.on('error', reject);
      this.socket.on('message', (data) => {
        const { message } = SignalResponse.fromBinary(new Uint8Array(data));
        if (message.case === 'join') resolve();
        turn = turn.then(() => this.handle(message));
        turn.catch(reject);
      });
    });
    await joined;
    this.microphone = new MediaStreamTrack({ kind: 'audio' });
    this.publisher.addTransceiver(this.microphone, { direction: 'sendonly' });
    this.channel = this.publisher.createDataChannel('_reliable');
    const open = new Promise((resolve) => { this.channel.stateChanged.subscribe((state) => state === 'open' && resolve()); });
    const offer = await this.publisher.createOffer();
    // werift's offers have no msid: the track is known by its kind.
    this.send('addTrack', new AddTrackRequest({ cid: this.microphone.id, name: 'tone', type: TrackType.AUDIO, source: TrackSource.MICROPHONE }));
    await this.publisher.setLocalDescription(offer);
    this.send('offer', { type: 'offer', sdp: this.publisher.localDescription.sdp, id: 1 });
    await Promise.race([open, pause(10_000).then(() => { throw new Error(`${this.identity} has no channel`); })]);
    this.humming = setInterval(() => this.hum(), 20);
  }

  send(kind, value) {
    this.socket.send(new SignalRequest({ message: { case: kind, value } }).toBinary());
  }

  async handle({ case: kind, value }) {
    if (kind === 'answer') {
      await this.publisher.setRemoteDescription({ type: 'answer', sdp: value.sdp });
    } else if (kind === 'offer') {
      await this.subscriber.setRemoteDescription({ type: 'offer', sdp: value.sdp });
      await this.subscriber.setLocalDescription(await this.subscriber.createAnswer());
      this.send('answer', { type: 'answer', sdp: this.subscriber.localDescription.sdp, id: value.id });
    } else if (kind === 'trickle') {
      this.early.push(value);
    }
    await this.candidates();
  }

  /** Takes the candidates of connections that have been described. */
  async candidates() {
    const waiting = [];
    for (const trickle of this.early) {
      const connection = trickle.target === SignalTarget.PUBLISHER ? this.publisher : this.subscriber;
      const { candidate, sdpMLineIndex } = JSON.parse(trickle.candidateInit);
      if (!connection.remoteDescription) waiting.push(trickle);
      else if (candidate) await connection.addIceCandidate({ candidate, sdpMLineIndex });
    }
    this.early = waiting;
  }

  hum() {
    this.hummed = (this.hummed ?? 0) + 1;
    const header = { payloadType: 96, sequenceNumber: this.hummed & 0xffff, timestamp: this.hummed * 960, ssrc: 1 };
    this.microphone.writeRtp(new RtpPacket(new RtpHeader(header), Buffer.from([0xf8, 0xff, 0xfe])));
  }

  say(number) {
    const user = new UserPacket({ payload: Buffer.from(String(number)) });
    const packet = new DataPacket({ kind: DataPacket_Kind.RELIABLE, value: { case: 'user', value: user } });
    this.channel.send(Buffer.from(packet.toBinary()));
  }

  take(data) {
    const { value } = DataPacket.fromBinary(new Uint8Array(data));
    if (value.case === 'user') this.messages.push(Number(Buffer.from(value.value.payload).toString()));
  }
}

const pair = [new Participant('werift-1'), new Participant('werift-2')];
const out = { problems: [], received: {} };
try {
  for (const one of pair) await one.join();
  await pause(1500);
  for (let number = 0; number < wanted; number++) {
    for (const one of pair) one.say(number);
    await pause(20);
  }
  await pause(1000);
  for (const { identity, messages, packets } of pair) {
    out.received[identity] = { messages: messages.length, packets };
    const inOrder = messages.length === wanted && messages.every((message, number) => message === number);
    if (!inOrder) out.problems.push(`${identity} has ${messages.length} messages of ${wanted}, not all or not in order`);
  }
} catch (e) {
  out.problems.push(`${e.name}: ${e.message}`);
}
process.stdout.write(`\n${JSON.stringify(out)}\n`);
process.exit(out.problems.length ? 1 : 0);
