// The network goes away and comes back: the WebSocket, the media, both, or the server's address.
import { addAddress, cutInput, dropAddress } from '../lib/network.mjs';
import { Page } from '../lib/page.mjs';
import { sleep, until } from '../lib/wait.mjs';

const ROUNDS = 10;
/** Short ones end before a client has noticed, long ones after. */
const CUTS = [2000, 6000];
/** A browser looks for another way 2.5 s after the last sign of life, and waits one more before it takes it. */
const CHANGES = [4000, 6000];
/** Where the server is reached while its address changes: a new one each time. */
const address = { last: 1, get now() { return `10.99.9.${this.last}`; } };

const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];

/** What each kind of cut takes away; answers what brings it back. */
const KINDS = {
  'the WebSocket': ({ server: { ports } }) => cutInput(`tcp dport ${ports.http} reject with tcp reset`, `tcp sport ${ports.http} reject with tcp reset`),
  'the media': ({ server: { ports } }) => cutInput(`udp dport ${ports.udp} drop`, `udp sport ${ports.udp} drop`),
  both: ({ server: { ports } }) => cutInput(
    `udp dport ${ports.udp} drop`,
    `udp sport ${ports.udp} drop`,
    `tcp dport ${ports.http} reject with tcp reset`,
    `tcp sport ${ports.http} reject with tcp reset`,
  ),
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

async function chromium(test, kind, cuts = CUTS) {
  test.needNamespace();
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice');
  const bob = await Page.join(test, browser, 'bob');
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
  const sent = await alice.tab.evaluate(() => window.stopNumbers());
  const numbers = async () => (await bob.call('data')).map(([, text]) => Number(text));
  await until(async () => (await numbers()).length >= sent, 10_000);
  const got = await numbers();
  const wrong = got.findIndex((n, i) => n !== i);
  test.check(got.length === sent && wrong < 0, `${got.length} of ${sent} messages came; number ${wrong} was ${got[wrong]}`);
  test.figure('messages', got.length);
  for (const page of [alice, bob]) {
    const names = (await page.events()).map(([, name]) => name);
    test.figure(`${page.identity} reconnected`, names.filter((name) => name === 'Reconnected').length);
    test.check(!names.includes('Disconnected'), `${page.identity} was disconnected`);
  }
}

export const resumeCases = [
  { name: 'resume-websocket', about: 'the WebSocket is cut ten times', timeout: 180, run: (t) => chromium(t, 'the WebSocket') },
  { name: 'resume-media', about: 'UDP is cut ten times', timeout: 180, run: (t) => chromium(t, 'the media') },
  { name: 'resume-both', about: 'both are cut ten times', timeout: 240, run: (t) => chromium(t, 'both') },
  {
    name: 'resume-address',
    about: "the server's address changes ten times",
    timeout: 240,
    server: { rtc: { ips: { includes: ['10.99.9.0/24'] } } },
    before: (test) => {
      test.needNamespace();
      addAddress(address.now);
    },
    run: (t) => chromium(t, 'the address', CHANGES),
  },
];
