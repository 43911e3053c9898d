// The network goes away and comes back: the WebSocket, the media, both, or the server's address.
import { addAddress, cutInput, dropAddress } from '../lib/network.mjs';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Page } from '../lib/page.mjs';
import { inRoot, python as interpreter } from '../lib/paths.mjs';
import { TcpProxy } from '../lib/tcp-proxy.mjs';
import { sleep, until, within } from '../lib/wait.mjs';

const ROUNDS = 10;
/** Short ones end before a client has noticed, long ones after. */
const CUTS = [2000, 6000];
/** The Python SDK tries to resume once, for 5 s. */
const PYTHON_CUTS = [2000, 4000];
/** A browser looks for another way 2.5 s after the last sign of life, and waits one more before it takes it. */
const CHANGES = [4000, 6000];
/** Where the server is reached while its address changes: a new one each time. */
const address = { last: 1, get now() { return `10.99.9.${this.last}`; } };

const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];

const dropUdp = ({ server: { ports } }) => cutInput(`udp dport ${ports.udp} drop`, `udp sport ${ports.udp} drop`);

/** Clients reach the WebSocket by `test.line`; answers what restores it. */
function cutLine({ line, holds }) {
  line.cut({ holds });
  return () => line.restore();
}

/** What each kind of cut takes away; answers what brings it back. */
const KINDS = {
  'the WebSocket': cutLine,
  'the media': dropUdp,
  both: (test) => {
    const restores = [cutLine(test), dropUdp(test)];
    return () => restores.forEach((restore) => restore());
  },
  'the address': () => {
    dropAddress(address.now);
    address.last += 1;
    return () => addAddress(address.now);
  },
};

/** Cuts, waits, restores; answers in how many ms after that `page` sees `from` move again. */
async function cutOnce(test, kind, ms, page, from) {
  const restore = KINDS[kind](test);
  await sleep(ms);
  restore();
  const back = Date.now();
  const frames = async () => (await page.track(from, 'video'))?.frames ?? 0;
  const before = await frames();
  const moves = await until(async () => (await frames()) > before, 15_000, 20);
  return moves ? Date.now() - back : undefined;
}

/** What was sent came once and in order. */
function compareNumbers(test, sent, got) {
  const lost = sent.filter((n) => !got.includes(n));
  test.check(!lost.length, `of ${sent.length} messages these did not come: ${lost}`);
  const wrong = got.findIndex((n, i) => i > 0 && n <= got[i - 1]);
  test.check(wrong < 0, `after message ${got[wrong - 1]} came ${got[wrong]}`);
  test.figure('messages', got.length);
}

async function browser(test, kind, { cuts = CUTS, singlePeerConnection, receiver = 'chromium' } = {}) {
  test.needNamespace();
  test.line = test.closing(await TcpProxy.start(test.server.ports.http));
  const chromium = await test.chromium();
  const alice = await Page.join(test, chromium, 'alice', { url: test.line.url, singlePeerConnection });
  const other = receiver === 'chromium' ? chromium : await test.firefox();
  const bob = await Page.join(test, other, 'bob', { url: test.line.url, singlePeerConnection });
  test.check(await until(async () => (await bob.track('alice', 'video'))?.frames > 0, 15_000), 'bob sees nothing of alice');
  await alice.call('startNumbers', 100);
  const times = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    times.push(await cutOnce(test, kind, cuts[round % cuts.length], bob, 'alice'));
    // Until the clients have finished what they began; one whose media is lost for ten seconds begins anew.
    for (const page of [alice, bob]) {
      const settled = () => page.tab.evaluate(() => window.room.state === 'connected' && window.room.localParticipant.connectionQuality !== 'lost');
      test.check(await until(settled, 15_000, 100), `${kind}: ${page.identity} is not connected again`);
    }
    await sleep(1000);
  }
  test.figure(`ms after ${kind} is back`, times);
  test.check(times.every((t) => t !== undefined), `${kind}: bob's video did not come back in round ${times.indexOf(undefined)}`);
  test.check(median(times.map((t) => t ?? Infinity)) <= 2000, `${kind}: back after ${median(times)} ms`);
  const { given, kept } = await alice.tab.evaluate(() => window.stopNumbers());
  test.figure('messages that the client took and did not send in turn', kept);
  const numbers = async () => (await bob.call('data')).map(([, text]) => Number(text.replaceAll('#', '')));
  await until(async () => (await numbers()).length >= given.length, 10_000);
  compareNumbers(test, given, await numbers());
  for (const page of [alice, bob]) {
    const names = (await page.events()).map(([, name]) => name);
    test.figure(`${page.identity} reconnected`, names.filter((name) => name === 'Reconnected').length);
    test.check(!names.includes('Disconnected'), `${page.identity} was disconnected`);
  }
}

/** The same of the Python SDK, which takes down itself when frames arrive. */
async function python(test, kind, cuts = PYTHON_CUTS) {
  test.needNamespace();
  // Refused once, it does not resume but begins anew.
  test.holds = true;
  test.line = test.closing(await TcpProxy.start(test.server.ports.http));
  const errors = fs.openSync(path.join(test.out, 'client.err'), 'w');
  const command = [inRoot('clients/moving-picture.py'), '--url', test.line.url];
  const child = test.closing(spawn(interpreter(), command, { stdio: ['pipe', 'pipe', errors] }), () => child.kill('SIGKILL'));
  let said = '';
  child.stdout.on('data', (text) => { said += text; });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const plays = await until(() => said.includes('playing') || child.exitCode !== null, 30_000, 50);
  if (!test.check(plays && child.exitCode === null, 'the client did not get as far as a picture')) return;
  const restored = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const restore = KINDS[kind](test);
    await sleep(cuts[round % cuts.length]);
    restore();
    restored.push(Date.now());
    await sleep(4000);
  }
  child.stdin.end();
  await within(30_000, 'the end of the client', ended);
  const { frames, sent, numbers, events } = JSON.parse(said.slice(said.indexOf('{')));
  const times = restored.map((at, n) => {
    const back = frames.find((time) => time > at);
    return back !== undefined && back < (restored[n + 1] ?? Infinity) ? back - at : undefined;
  });
  test.figure(`ms after ${kind} is back`, times);
  test.figure('events', events.map(([, identity, name]) => `${identity} ${name}`).join(', '));
  test.check(times.every((t) => t !== undefined), `${kind}: the picture did not come back in round ${times.indexOf(undefined)}`);
  test.check(median(times.map((t) => t ?? Infinity)) <= 2000, `${kind}: back after ${median(times)} ms`);
  compareNumbers(test, sent, numbers);
}

/** The server offers the address that changes, and no other. */
const MOVING = {
  timeout: 240,
  server: { rtc: { ips: { includes: ['10.99.9.0/24'] } } },
  before: (test) => {
    test.needNamespace();
    addAddress(address.now);
  },
};

export const resumeCases = [
  { name: 'resume-websocket', about: 'the WebSocket is cut ten times', timeout: 180, waits: true, run: (t) => browser(t, 'the WebSocket') },
  { name: 'resume-media', about: 'UDP is cut ten times', timeout: 180, waits: true, run: (t) => browser(t, 'the media') },
  { name: 'resume-both', about: 'both are cut ten times', timeout: 240, waits: true, run: (t) => browser(t, 'both') },
  { name: 'resume-firefox-websocket-v0', about: 'the WebSocket, in Firefox with two connections', timeout: 240, waits: true, run: (t) => browser(t, 'the WebSocket', { singlePeerConnection: false, receiver: 'firefox' }) },
  { name: 'resume-firefox-both-v0', about: 'both, in Firefox with two connections', timeout: 240, waits: true, run: (t) => browser(t, 'both', { singlePeerConnection: false, receiver: 'firefox' }) },
  { name: 'resume-python-websocket', about: 'the same with the Python SDK', timeout: 180, light: true, run: (t) => python(t, 'the WebSocket') },
  { name: 'resume-python-media', about: 'UDP, with the Python SDK', timeout: 180, light: true, run: (t) => python(t, 'the media') },
  { name: 'resume-python-both', about: 'both, with the Python SDK', timeout: 180, light: true, run: (t) => python(t, 'both') },
  { name: 'resume-address', about: "the server's address changes ten times", ...MOVING, waits: true, run: (t) => browser(t, 'the address', { cuts: CHANGES }) },
  { name: 'resume-python-address', about: 'the same with the Python SDK', ...MOVING, light: true, run: (t) => python(t, 'the address', CHANGES) },
];
