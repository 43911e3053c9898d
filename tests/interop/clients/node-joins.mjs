// @livekit/rtc-node: joins and leaves, one after the other, each by a new participant; one JSON
// summary.
//   node clients/node-joins.mjs URL COUNT LIMIT_MS [v0|v1] [--publish]
// --publish: everybody publishes a microphone, and one participant stays and listens.
import { dispose, Room } from '@livekit/rtc-node';
import { token } from '../lib/token.mjs';
import { publishMicrophone } from './tone.mjs';

const [url, count, limit, version] = process.argv.slice(2);
const publish = process.argv.includes('--publish');
const options = { autoSubscribe: true, dynacast: true, singlePeerConnection: version !== 'v0' };
const out = { problems: [], joined: 0 };
const times = [];

async function join(identity) {
  const room = new Room();
  const t0 = Date.now();
  await room.connect(url, await token(identity, 'joins'), options);
  return { room, ms: Date.now() - t0 };
}

async function visit(identity) {
  const { room, ms } = await join(identity);
  times.push(ms);
  out.joined += 1;
  if (ms > limit) out.problems.push(`${identity} took ${ms} ms to connect`);
  let going = true;
  if (publish) {
    await publishMicrophone(room, () => going);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  going = false;
  await room.disconnect();
}

const resident = publish ? await join('resident') : undefined;
for (let i = 0; i < Number(count); i += 1) {
  try {
    await visit(`visitor-${i}`);
  } catch (e) {
    out.problems.push(`visitor-${i}: ${e.message}`);
  }
}
times.sort((a, b) => a - b);
Object.assign(out, { medianMs: times[times.length >> 1], p90Ms: times[Math.floor(times.length * 0.9)], slowestMs: times.at(-1) });
process.stdout.write(`\n${JSON.stringify(out)}\n`);
await resident?.room.disconnect();
await Promise.race([dispose(), new Promise((resolve) => setTimeout(resolve, 2000))]);
process.exit(out.problems.length ? 1 : 0);
