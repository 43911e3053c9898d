// Calls over a line that loses, delays and reorders packets, and many joins.
import { Page } from '../lib/page.mjs';
import { LOSSY_SERVER } from '../lib/test.mjs';
import { CLIENT_SIDE } from '../lib/udp-proxy.mjs';
import { sleep, until } from '../lib/wait.mjs';
import { runNode } from './node.mjs';

const SECONDS = 20;

/** 5 % loss each way, 50 ms each way, reordering: video keeps moving and sound goes on. */
async function callUnderLoss(test, singlePeerConnection) {
  await test.badLine({ loss: 0.05, delay: 50, reorder: 0.03 });
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice', { singlePeerConnection });
  const bob = await Page.join(test, browser, 'bob', { singlePeerConnection });
  const flowing = await until(async () => (await bob.track('alice', 'video'))?.frames > 0, 15_000);
  if (!test.check(flowing, 'bob decoded no video of alice in 15 s')) return;
  const paths = await bob.call('paths');
  test.check(paths.every((p) => p.address === CLIENT_SIDE), `bob's media goes around the bad line: ${JSON.stringify(paths)}`);
  await sleep(2000);
  const first = { video: await bob.track('alice', 'video'), audio: await bob.track('alice', 'audio') };
  let still = 0;
  let longestStill = 0;
  let frames = first.video.frames;
  for (let i = 0; i < SECONDS * 2; i += 1) {
    await sleep(500);
    const seen = await bob.track('alice', 'video');
    const now = seen?.frames ?? frames;
    // A failure is explained by what each side saw at that moment.
    if (now === frames) test.log(`still: bob ${JSON.stringify(seen)}; alice ${JSON.stringify(await alice.call('sent'))}`);
    still = now === frames ? still + 0.5 : 0;
    longestStill = Math.max(longestStill, still);
    frames = now;
  }
  const last = { video: await bob.track('alice', 'video'), audio: await bob.track('alice', 'audio') };
  const fps = (last.video.frames - first.video.frames) / SECONDS;
  const freezes = last.video.freezes - first.video.freezes;
  const samples = last.audio.samples - first.audio.samples;
  const concealed = (last.audio.concealed - first.audio.concealed) / Math.max(1, samples);
  test.figure('frames per s', +fps.toFixed(1));
  test.figure('freezes', freezes);
  test.figure('frozen s', +(last.video.frozenSeconds - first.video.frozenSeconds).toFixed(2));
  test.figure('longest still s', longestStill);
  test.figure('share of sound made up', +concealed.toFixed(3));
  test.check(fps >= 8, `bob decoded ${fps.toFixed(1)} frames a second of alice`);
  test.check(longestStill <= 2, `alice's video stood still for ${longestStill} s`);
  test.check(last.audio.energy > first.audio.energy, "alice's sound ended");
  test.check(concealed < 0.3, `${Math.round(concealed * 100)} % of alice's sound is made up`);
}

/** What each page shows of alice's connection, as `bob's/alice's own`. */
async function shown(alice, bob) {
  const seen = await bob.tab.evaluate("room.remoteParticipants.get('alice')?.connectionQuality");
  const own = await alice.tab.evaluate('room.localParticipant.connectionQuality');
  return `${seen}/${own}`;
}

/** The line gets bad and good again: both pages say so. */
async function quality(test) {
  const proxy = await test.badLine({});
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice');
  const bob = await Page.join(test, browser, 'bob', { publish: false });
  const becomes = async (wanted, limit) => {
    const since = performance.now();
    const good = await until(async () => wanted.test(await shown(alice, bob)), limit, 200);
    test.figure(`${wanted.source} after s`, +((performance.now() - since) / 1000).toFixed(1));
    test.check(good, `alice's connection is ${await shown(alice, bob)}, not ${wanted.source}`);
  };
  await becomes(/excellent.excellent/, 15_000);
  await sleep(10_000);
  test.check(await shown(alice, bob) === 'excellent/excellent', `on a good line it is ${await shown(alice, bob)}`);
  proxy.line.loss = 0.1;
  await becomes(/(good|poor).(good|poor)/, 20_000);
  proxy.line.loss = 0;
  await becomes(/excellent.excellent/, 60_000);
}

async function joinsUnderLoss(test, version) {
  await test.badLine({ loss: 0.05 });
  await runNode(test, 'node-joins', [test.server.url, '40', '5000', version], 220_000);
}

/** After 50 joins, 200 more with their leaves may cost no memory and no descriptor. */
async function churn(test) {
  const settled = async () => {
    await sleep(3000);
    return { rssKb: test.server.rssKb(), descriptors: test.server.descriptors() };
  };
  await runNode(test, 'node-joins', [test.server.url, '50', '5000', 'v1', '--publish'], 120_000);
  const before = await settled();
  await runNode(test, 'node-joins', [test.server.url, '200', '5000', 'v1', '--publish'], 300_000);
  const after = await settled();
  test.figure('before', before);
  test.figure('after', after);
  const grown = after.rssKb - before.rssKb;
  test.figure('grown by kB', grown);
  test.check(grown <= 2048, `200 joins and leaves left ${grown} kB behind`);
  test.check(after.descriptors <= before.descriptors, `${before.descriptors} descriptors became ${after.descriptors}`);
}

export const badLineCases = [
  { name: 'quality', about: 'connection quality while the line gets bad and good again', timeout: 150, server: LOSSY_SERVER, run: quality },
  { name: 'joins-loss-v1', about: '40 joins at 5 % loss, one peer connection', timeout: 240, server: LOSSY_SERVER, run: (t) => joinsUnderLoss(t, 'v1') },
  { name: 'joins-loss-v0', about: '40 joins at 5 % loss, two peer connections', timeout: 240, server: LOSSY_SERVER, run: (t) => joinsUnderLoss(t, 'v0') },
  { name: 'call-loss-v1', about: 'a call at 5 % loss, 50 ms, reordering', timeout: 120, server: LOSSY_SERVER, run: (t) => callUnderLoss(t, true) },
  { name: 'call-loss-v0', about: 'the same with two peer connections', timeout: 120, server: LOSSY_SERVER, run: (t) => callUnderLoss(t, false) },
  { name: 'churn', about: '250 joins and leaves leave nothing behind', timeout: 440, run: churn },
];
