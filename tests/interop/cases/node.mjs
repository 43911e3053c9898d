// @livekit/rtc-node, LiveKit's React components, and werift.
import esbuild from 'esbuild';
import path from 'node:path';
import { inRoot } from '../lib/paths.mjs';
import { expectMedia, Page } from '../lib/page.mjs';
import { token } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

/** Runs a program of clients/ on this Node and takes over what it found. */
export async function runNode(test, program, args, limit) {
  const { code, json, said } = await test.client(program, process.execPath, [inRoot('clients', `${program}.mjs`), ...args], limit);
  for (const problem of json?.problems ?? [`${program} ended with ${code}: ${said}`]) test.check(false, problem);
  const { problems, ...figures } = json ?? {};
  test.figure(program, figures);
  return figures;
}

/** Two native participants and a browser in one room. */
async function besideBrowser(test, version) {
  const alice = await Page.join(test, await test.chromium(), 'alice');
  const [figures] = await Promise.all([
    runNode(test, 'node-pair', [test.server.url, 'room', '8', version]),
    expectMedia(test, alice, 'pub', { seconds: 2 }),
  ]);
  for (const kind of ['video', 'audio']) {
    const frames = figures.received?.[`alice/${kind}`] ?? 0;
    test.check(frames > 40, `the native subscriber counted ${frames} frames of alice/${kind}`);
  }
  await alice.leave();
}

async function openMeeting(test, browser, identity) {
  const tab = await browser.newPage();
  await tab.setViewportSize({ width: 1280, height: 720 });
  tab.on('console', (m) => { if (m.type() === 'error') test.log(`[${identity}] ${m.text().slice(0, 300)}`); });
  const query = new URLSearchParams({ url: test.server.url, token: await token(identity, 'meeting') });
  await tab.goto(`${test.pages.base}/out/${test.definition.name}/meet.html?${query}`);
  return tab;
}

const tiles = (tab) => tab.evaluate(() => ({
  tiles: document.querySelectorAll('.lk-participant-tile').length,
  videos: [...document.querySelectorAll('video')].map((v) => [v.videoWidth, v.currentTime]),
}));

/** VideoConference in three pages: everybody sees three tiles, and every video moves. */
async function meeting(test) {
  await esbuild.build({
    entryPoints: [inRoot('www/meet.jsx')],
    bundle: true,
    outfile: path.join(test.out, 'meet.js'),
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    nodePaths: [inRoot('node_modules')],
    loader: { '.svg': 'dataurl', '.html': 'copy' },
    logLevel: 'error',
  });
  await esbuild.build({ entryPoints: [inRoot('www/meet.html')], outdir: test.out, loader: { '.html': 'copy' } });
  const browser = await test.chromium();
  const tabs = [];
  for (const identity of ['ann', 'ben', 'cay']) tabs.push(await openMeeting(test, browser, identity));
  for (const [i, tab] of tabs.entries()) {
    await tab.bringToFront(); // adaptive stream stops what a hidden tab shows
    let seen;
    const good = await until(async () => {
      const before = seen;
      seen = await tiles(tab);
      return seen.tiles === 3 && seen.videos.length === 3 && before?.videos.length === 3
        && seen.videos.every(([width, time], n) => width > 0 && time > before.videos[n][1]);
    }, 20_000, 500);
    test.check(good, `page ${i} shows ${JSON.stringify(seen)}`);
    await tab.screenshot({ path: path.join(test.out, `page-${i}.png`) });
  }
}

export const nodeCases = [
  { name: 'node-v1', about: 'rtc-node and Chromium in one room', timeout: 60, over: ['tcp', 'no-udp'], run: (t) => besideBrowser(t, 'v1') },
  { name: 'node-v0', about: 'rtc-node with two peer connections', timeout: 60, over: ['tcp'], run: (t) => besideBrowser(t, 'v0') },
  { name: 'werift', about: 'two participants whose ICE, DTLS and SCTP are werift\'s', timeout: 60, light: true, run: (t) => runNode(t, 'werift-pair', [t.server.url, 'room', '100']) },
  { name: 'meeting', about: 'VideoConference of components-react in three pages', timeout: 120, over: ['tcp'], run: meeting },
];
