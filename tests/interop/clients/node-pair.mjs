// @livekit/rtc-node: a publisher and a subscriber in one Node process; one JSON summary, which
// counts the frames of everybody whom the subscriber hears or sees.
//   node clients/node-pair.mjs URL ROOM SECONDS [v0|v1]
import { AudioStream, dispose, Room, RoomEvent, TrackKind, VideoStream } from '@livekit/rtc-node';
import { token } from '../lib/token.mjs';
import { publishCamera, publishMicrophone } from './tone.mjs';

const [url, roomName, seconds, version] = process.argv.slice(2);
const options = { autoSubscribe: true, dynacast: true, ...(version ? { singlePeerConnection: version === 'v1' } : {}) };
const received = {};
const out = { problems: [], received };
let going = true;

async function count(track, publication, participant) {
  const video = track.kind === TrackKind.KIND_VIDEO;
  const name = `${participant.identity}/${video ? 'video' : 'audio'}`;
  received[name] = 0;
  for await (const _ of video ? new VideoStream(track) : new AudioStream(track)) {
    if (!going) break;
    received[name] += 1;
  }
}

const publisher = new Room();
const subscriber = new Room();
try {
  let t0 = Date.now();
  await publisher.connect(url, await token('pub', roomName), options);
  out.publisherConnectMs = Date.now() - t0;
  await publishCamera(publisher, () => going);
  await publishMicrophone(publisher, () => going);
  await new Promise((resolve) => setTimeout(resolve, 500)); // until all know of it
  subscriber.on(RoomEvent.TrackSubscribed, count);
  t0 = Date.now();
  await subscriber.connect(url, await token('sub', roomName), options);
  out.subscriberConnectMs = Date.now() - t0;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  for (const name of ['pub/video', 'pub/audio']) {
    if (!(received[name] > seconds * 5)) out.problems.push(`the subscriber counted ${received[name] ?? 'no'} frames of ${name}`);
  }
} catch (e) {
  out.problems.push(`${e.name}: ${e.message}`);
}
going = false;
process.stdout.write(`\n${JSON.stringify(out)}\n`);
const ended = Promise.allSettled([publisher.disconnect(), subscriber.disconnect()]).then(() => dispose());
await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 3000))]);
process.exit(out.problems.length ? 1 : 0);
