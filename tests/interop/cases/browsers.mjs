// livekit-client in Debian's browsers.
import path from 'node:path';
import { ParticipantInfo_KindDetail } from '@livekit/protocol';
import { RoomServiceClient } from 'livekit-server-sdk';
import { expectMedia, expectStill, expectWidth, Page } from '../lib/page.mjs';
import { KEY, SECRET } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

const ALL = ['tcp'];
const MOST = ['tcp', 'no-udp'];

/** Where TCP alone is left, media must have taken it. */
async function expectProtocol(test, page) {
  const want = test.definition.protocol ?? 'udp';
  const paths = await page.call('paths');
  test.figure(`${page.identity} path`, paths.map((p) => `${p.protocol} ${p.address}:${p.port}`).join(', '));
  test.check(paths.length && paths.every((p) => p.protocol === want), `${page.identity} is on ${JSON.stringify(paths)}, not ${want}`);
}

/** Two pages: media both ways, then a big, a small and a hidden element. */
async function twoPages(test, singlePeerConnection) {
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice', { singlePeerConnection });
  const bob = await Page.join(test, browser, 'bob', { singlePeerConnection });
  await expectMedia(test, bob, 'alice');
  await expectMedia(test, alice, 'bob', { seconds: 1 });
  await expectProtocol(test, bob);
  await expectWidth(test, bob, 'alice', 1280);
  await bob.tab.screenshot({ path: path.join(test.out, 'bob.png') });
  await bob.call('styleVideos', 'width:160px;height:90px;display:block');
  await expectWidth(test, bob, 'alice', 320);
  await bob.call('styleVideos', 'display:none');
  await expectStill(test, bob, 'alice');
  test.figure('alice sent', await alice.call('sent'));
  const drops = (await bob.events()).filter(([, name]) => /Reconnecting|Disconnected|Failed/.test(name));
  test.check(!drops.length, `bob's events: ${JSON.stringify(drops)}`);
  await alice.leave();
  const gone = await until(async () => !(await bob.call('received')).length, 5000);
  test.check(gone, "alice's tracks stay with bob after she left");
  await bob.leave();
}

/** Alice in Chromium, Bob in Firefox, both directions. */
async function withFirefox(test, singlePeerConnection) {
  const alice = await Page.join(test, await test.chromium(), 'alice', { singlePeerConnection });
  const bob = await Page.join(test, await test.firefox(), 'bob', { singlePeerConnection });
  await expectMedia(test, bob, 'alice');
  await expectMedia(test, alice, 'bob');
  await expectProtocol(test, alice);
  await bob.tab.screenshot({ path: path.join(test.out, 'bob.png') });
  test.figure('bob sent', await bob.call('sent'));
  await alice.leave();
  await bob.leave();
}

/** Alice is moved from Bob's room to Carol's: her connections and tracks go along. */
async function moved(test, singlePeerConnection) {
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice', { room: 'red', singlePeerConnection });
  const bob = await Page.join(test, browser, 'bob', { room: 'red', singlePeerConnection });
  const carol = await Page.join(test, browser, 'carol', { room: 'blue', singlePeerConnection });
  await expectMedia(test, bob, 'alice', { seconds: 1, fps: 1 });
  await expectMedia(test, alice, 'bob', { seconds: 1, fps: 1 });
  const [tracks, paths] = [await alice.call('local'), await alice.call('paths')];
  const api = new RoomServiceClient(test.server.http, KEY, SECRET);
  await api.moveParticipant('red', 'alice', 'blue');
  await expectMedia(test, alice, 'carol', { limit: 5000 });
  await expectMedia(test, carol, 'alice', { limit: 5000 });
  const gone = await until(async () => !(await bob.call('received')).length && !(await bob.call('others')).length, 5000);
  test.check(gone, 'alice stays with bob');
  const others = (await alice.call('others')).map((p) => p.identity).join();
  test.check(others === 'carol', `alice sees ${others}`);
  const from = new Set((await alice.call('received')).map((row) => row.from));
  test.check([...from].join() === 'carol', `alice gets media of ${[...from]}`);
  test.check(JSON.stringify(await alice.call('local')) === JSON.stringify(tracks), 'alice published anew');
  test.check(JSON.stringify(await alice.call('paths')) === JSON.stringify(paths), 'alice has other connections than before');
  const drops = (await alice.events()).filter(([, name]) => /Reconnecting|Disconnected|Failed/.test(name));
  test.check(!drops.length, `alice's events: ${JSON.stringify(drops)}`);
  for (const page of [alice, bob, carol]) await page.leave();
}

/** Alice of Bob's room is in Carol's room too: seen, heard, muted and renamed there, until she is removed there or leaves. */
async function forwarded(test, singlePeerConnection) {
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice', { room: 'red', singlePeerConnection });
  const bob = await Page.join(test, browser, 'bob', { room: 'red', singlePeerConnection, publish: false });
  const carol = await Page.join(test, browser, 'carol', { room: 'blue', singlePeerConnection, publish: false });
  await expectMedia(test, bob, 'alice', { seconds: 1, fps: 1 });
  const paths = await alice.call('paths');
  const api = new RoomServiceClient(test.server.http, KEY, SECRET);
  await api.forwardParticipant('red', 'alice', 'blue');
  await expectMedia(test, carol, 'alice');
  await expectWidth(test, carol, 'alice', 1280);
  await carol.tab.screenshot({ path: path.join(test.out, 'carol.png') });
  const [guest] = (await api.listParticipants('blue')).filter((p) => p.identity === 'alice');
  const details = guest?.kindDetails.join();
  test.check(details === String(ParticipantInfo_KindDetail.FORWARDED), `alice's kind details: ${details}`);

  await carol.call('styleVideos', 'width:160px;height:90px;display:block');
  await expectWidth(test, carol, 'alice', 320);
  await expectWidth(test, bob, 'alice', 1280);
  const active = async () => {
    const rows = (await alice.call('sent')).filter((row) => row.kind === 'video' && row.rid && row.active);
    return rows.map((row) => row.rid).sort().join('');
  };
  await bob.call('styleVideos', 'display:none');
  test.check(await until(async () => (await active()) === 'q', 12_000, 100), `for carol alone alice sends ${await active()}`);
  await carol.call('styleVideos', 'width:1280px;height:720px;display:block');
  await expectWidth(test, carol, 'alice', 1280);
  await bob.call('styleVideos', 'width:1280px;height:720px;display:block');

  const seen = () => carol.tab.evaluate(() => {
    const p = window.room.remoteParticipants.values().next().value;
    return p && `${p.name} ${p.isMicrophoneEnabled} ${p.isCameraEnabled}`;
  });
  const expectSeen = async (what) => test.check(await until(async () => (await seen()) === what, 5000), `carol sees ${await seen()}, not ${what}`);
  await api.updateParticipant('red', 'alice', { name: 'Alice' });
  for (const on of [false, true]) {
    await alice.tab.evaluate((enabled) => Promise.all([
      window.room.localParticipant.setMicrophoneEnabled(enabled),
      window.room.localParticipant.setCameraEnabled(enabled),
    ]), on);
    await expectSeen(`Alice ${on} ${on}`);
  }
  await expectMedia(test, carol, 'alice', { seconds: 1 });

  const empty = async (page) => !(await page.call('received')).length && !(await page.call('others')).length;
  await api.removeParticipant('blue', 'alice');
  test.check(await until(() => empty(carol), 5000), 'alice stays with carol after she was removed');
  await expectMedia(test, bob, 'alice', { seconds: 1 });
  test.check(JSON.stringify(await alice.call('paths')) === JSON.stringify(paths), 'alice has other connections than before');
  await api.forwardParticipant('red', 'alice', 'blue');
  await expectMedia(test, carol, 'alice', { seconds: 1 });
  for (const page of [alice, bob, carol]) {
    const drops = (await page.events()).filter(([, name]) => /Reconnecting|Disconnected|Failed/.test(name));
    test.check(!drops.length, `${page.identity}'s events: ${JSON.stringify(drops)}`);
  }
  await alice.leave();
  test.check(await until(() => empty(carol), 5000), 'alice stays with carol after she left');
  for (const page of [bob, carol]) await page.leave();
}

/** Tones that come and go: everybody hears who speaks, the louder one first, and when nobody does. */
async function speakers(test) {
  const browser = await test.chromium();
  const join = (identity) => Page.join(test, browser, identity, { publish: false });
  const [alice, bob, carol] = [await join('alice'), await join('bob'), await join('carol')];
  for (const page of [alice, bob]) await page.call('publishTone');
  const heard = async (page) => (await page.call('speakers')).map(([identity]) => identity).join();
  const hear = async (wanted, limit, what) => {
    const start = Date.now();
    for (const page of [alice, bob, carol]) {
      const came = await until(async () => (await heard(page)) === wanted, limit, 50);
      test.check(came, `${what}: ${page.identity} hears "${await heard(page)}" speak, not "${wanted}"`);
    }
    test.figure(`ms until ${what}`, Date.now() - start);
  };
  await hear('', 3000, 'nobody');
  await alice.call('setTone', 0.5);
  await hear('alice', 3000, 'alice');
  await bob.call('setTone', 0.05);
  await hear('alice,bob', 3000, 'alice above bob');
  const levels = Object.fromEntries(await carol.call('speakers'));
  test.figure('levels', levels);
  test.check(levels.alice > levels.bob && levels.bob > 0 && levels.alice <= 1, `levels: ${JSON.stringify(levels)}`);
  await alice.call('setTone', 0);
  await hear('bob', 4000, 'bob alone');
  await bob.call('setTone', 0);
  await hear('', 4000, 'nobody again');
  for (const page of [alice, bob, carol]) await page.leave();
}

/** The client of 2023 beside today's, both directions. */
async function withOldClient(test) {
  const browser = await test.chromium();
  const old = await Page.join(test, browser, 'old', { client: 'old' });
  const fresh = await Page.join(test, browser, 'new');
  test.figure('version', old.joined.version);
  await expectMedia(test, fresh, 'old');
  await expectMedia(test, old, 'new');
  await fresh.tab.screenshot({ path: path.join(test.out, 'new.png') });
  await old.leave();
  await fresh.leave();
}

/** A camera that is shown small, not at all, and large again: no layer is sent that nobody shows. */
async function dynacast(test) {
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice');
  const bob = await Page.join(test, browser, 'bob', { publish: false });
  await expectMedia(test, bob, 'alice');
  const active = async () => {
    const rows = (await alice.call('sent')).filter((row) => row.kind === 'video' && row.rid);
    return rows.filter((row) => row.active).map((row) => row.rid).sort().join('');
  };
  for (const [css, wanted] of [['width:160px;height:90px', 'q'], ['display:none', ''], ['width:1280px;height:720px', 'fhq']]) {
    await bob.call('styleVideos', css);
    const since = performance.now();
    const done = await until(async () => (await active()) === wanted, 12_000, 100);
    test.figure(`${css} after s`, +((performance.now() - since) / 1000).toFixed(1));
    test.check(done, `with ${css} alice sends ${await active() || 'nothing'}, not ${wanted || 'nothing'}`);
  }
  await expectMedia(test, bob, 'alice');
}

/** One stream of three spatial layers: each watcher gets those that its element asks for. */
async function spatialLayers(test, codec, openCarol) {
  const browser = await test.chromium();
  const roomOptions = { videoCaptureDefaults: { resolution: { width: 960, height: 540, frameRate: 20 } } };
  const alice = await Page.join(test, browser, 'alice', { codec, roomOptions });
  const bob = await Page.join(test, browser, 'bob', { publish: false });
  const carol = await Page.join(test, await openCarol(browser), 'carol', { publish: false });
  for (const page of [bob, carol]) {
    await expectMedia(test, page, 'alice', { seconds: 1, fps: 5 });
    await expectWidth(test, page, 'alice', 960);
  }
  const encodings = (await alice.call('sent')).filter((row) => row.kind === 'video').length;
  test.check(encodings === 1, `alice sends ${encodings} encodings, not one of several layers`);
  for (const [css, width] of [['width:160px;height:90px', 240], ['width:480px;height:270px', 480], ['width:160px;height:90px', 240]]) {
    await bob.call('styleVideos', `${css};display:block`);
    await expectWidth(test, bob, 'alice', width);
    const bytes = async () => Promise.all([bob, carol].map(async (page) => (await page.track('alice', 'video')).bytes));
    const before = await bytes();
    await expectMedia(test, bob, 'alice', { fps: 5 });
    await expectWidth(test, carol, 'alice', 960, 0);
    const [bobs, carols] = (await bytes()).map((all, n) => all - before[n]);
    test.figure(`share of bytes at width ${width}`, +(bobs / carols).toFixed(2));
    test.check(bobs < carols * (width / 960), `bob gets ${bobs} bytes at width ${width}, carol ${carols} at 960`);
  }
  await bob.call('styleVideos', 'width:960px;height:540px;display:block');
  await expectWidth(test, bob, 'alice', 960);
  await expectMedia(test, bob, 'alice', { fps: 5 });
  for (const page of [alice, bob, carol]) await page.leave();
}

/** VP9 with VP8 as its backup: for whoever takes no VP9 alone, or for everybody then. */
async function backupCodec(test, singlePeerConnection) {
  const browser = await test.chromium();
  const SIMULCAST = 1;
  const REGRESSION = 2;
  for (const [room, backupCodecPolicy] of [['red', SIMULCAST], ['blue', REGRESSION]]) {
    const publishDefaults = { simulcast: true, videoCodec: 'vp9', backupCodec: { codec: 'vp8' }, backupCodecPolicy };
    const resolution = { width: 640, height: 360, frameRate: 20 };
    const roomOptions = { publishDefaults, videoCaptureDefaults: { resolution } };
    const alice = await Page.join(test, browser, 'alice', { room, singlePeerConnection, roomOptions });
    const watch = (identity, options) => Page.join(test, browser, identity, { room, singlePeerConnection, publish: false, ...options });
    const bob = await watch('bob');
    const codecOf = async (page) => (await page.track('alice', 'video'))?.codec;
    const expectCodec = async (page, codec) => {
      const got = await until(async () => (await codecOf(page)) === `video/${codec}`, 15_000);
      test.check(got, `${room}: ${page.identity} gets ${await codecOf(page)}, not ${codec}`);
      await expectMedia(test, page, 'alice', { fps: 5 });
      test.check((await codecOf(page)) === `video/${codec}`, `${room}: ${page.identity} got ${await codecOf(page)} after ${codec}`);
    };
    const expectSent = async (...wanted) => {
      const list = wanted.map((codec) => `video/${codec}`).join();
      const sent = async () => (await alice.call('sentCodecs')).join();
      test.check(await until(async () => (await sent()) === list, 15_000), `${room}: alice sends ${await sent()}, not ${list}`);
    };
    await expectCodec(bob, 'VP9');
    await expectSent('VP9');
    await bob.call('startGaps', 'alice');
    const carol = await watch('carol', { withoutCodec: 'VP9' });
    await expectCodec(carol, 'VP8');
    const all = backupCodecPolicy === REGRESSION;
    await expectCodec(bob, all ? 'VP8' : 'VP9');
    await expectSent('VP8', ...(all ? [] : ['VP9']));
    const { longest } = await bob.call('stopGaps');
    test.figure(`${room}: bob's longest pause in ms`, longest);
    test.check(longest < 2000, `${room}: bob's picture stood still for ${longest} ms`);
    const dave = await watch('dave');
    await expectCodec(dave, all ? 'VP8' : 'VP9');
    await carol.leave();
    await expectSent(all ? 'VP8' : 'VP9');
    await expectCodec(bob, all ? 'VP8' : 'VP9');
    for (const page of [alice, bob, carol, dave]) {
      const drops = (await page.events()).filter(([, name, text]) => /Reconnecting|Failed/.test(name) || (name === 'Disconnected' && page !== carol) || /error/i.test(text));
      test.check(!drops.length, `${room}: ${page.identity}'s events: ${JSON.stringify(drops)}`);
    }
    for (const page of [alice, bob, dave]) await page.leave();
  }
}

/** Chromium sends Firefox a file, and Firefox sends one back. */
async function files(test) {
  const MEGABYTES = 20;
  const alice = await Page.join(test, await test.chromium(), 'alice', { publish: false });
  const bob = await Page.join(test, await test.firefox(), 'bob', { publish: false });
  for (const [from, to] of [[alice, bob], [bob, alice]]) {
    await to.call('receiveFile');
    const start = performance.now();
    const sent = await from.call('sendFile', MEGABYTES);
    const received = () => to.tab.evaluate('window.received');
    const whole = await until(async () => (await received()) === sent, 30_000);
    test.figure(`${to.identity} had it after s`, +((performance.now() - start) / 1000).toFixed(1));
    test.check(whole, `${to.identity} got ${await received()} of ${sent}`);
  }
  for (const page of [alice, bob]) {
    const drops = (await page.events()).filter(([, name]) => /Reconnecting|Disconnected/.test(name));
    test.check(!drops.length, `${page.identity}'s events: ${JSON.stringify(drops)}`);
  }
}

/** The page that comes with `--dev`, in two tabs. */
async function tryPage(test) {
  await test.startPages();
  const browser = await test.chromium();
  const tabs = [];
  for (let i = 0; i < 2; i += 1) {
    const tab = await browser.newPage();
    tab.on('console', (m) => { if (/error|warn/.test(m.type())) test.log(`[tab ${i}] ${m.text().slice(0, 400)}`); });
    tab.on('pageerror', (e) => test.log(`[tab ${i}] page error: ${e.message}`));
    await tab.goto(`${test.server.http}/try`);
    tabs.push(tab);
  }
  for (const [i, tab] of tabs.entries()) {
    await tab.bringToFront();
    const times = () => tab.evaluate(() => [...document.querySelectorAll('video')].map((v) => [v.videoWidth, v.currentTime]));
    let seen = [];
    const moving = await until(async () => {
      const before = seen;
      seen = await times();
      return seen.length === 2 && before.length === 2 && seen.every(([width, time], n) => width > 0 && time > before[n][1]);
    }, 15_000, 500);
    test.check(moving, `tab ${i} shows ${JSON.stringify(seen)}: ${await tab.evaluate(() => document.body.innerText.slice(0, 200))}`);
    await tab.screenshot({ path: path.join(test.out, `tab-${i}.png`) });
  }
}

export const browserCases = [
  { name: 'try-page', about: 'the page of --dev in two tabs', timeout: 60, server: { dev: true }, run: tryPage },
  { name: 'chromium-v1', about: 'two pages, one peer connection, three element sizes', timeout: 120, over: MOST, run: (t) => twoPages(t, true) },
  { name: 'chromium-v0', about: 'two pages, two peer connections, three element sizes', timeout: 120, over: ALL, run: (t) => twoPages(t, false) },
  { name: 'firefox-v1', about: 'Firefox ESR and Chromium, one peer connection', timeout: 90, over: MOST, run: (t) => withFirefox(t, true) },
  { name: 'firefox-v0', about: 'Firefox ESR and Chromium, two peer connections', timeout: 90, over: ALL, run: (t) => withFirefox(t, false) },
  { name: 'dynacast', about: 'only the layers that somebody shows are sent', timeout: 90, run: dynacast },
  { name: 'layers-vp9', about: 'three spatial layers in one stream of VP9, Chromium and Firefox', timeout: 120, run: (t) => spatialLayers(t, 'vp9', () => t.firefox()) },
  { name: 'layers-av1', about: 'three spatial layers in one stream of AV1', timeout: 120, run: (t) => spatialLayers(t, 'av1', (browser) => browser) },
  { name: 'backup-codec-v1', about: 'VP9 with VP8 as its backup codec, one peer connection', timeout: 150, run: (t) => backupCodec(t, true) },
  { name: 'backup-codec-v0', about: 'VP9 with VP8 as its backup codec, two peer connections', timeout: 150, run: (t) => backupCodec(t, false) },
  { name: 'chromium-forward-v1', about: 'forwarded to another room, one peer connection', timeout: 120, run: (t) => forwarded(t, true) },
  { name: 'chromium-forward-v0', about: 'forwarded to another room, two peer connections', timeout: 120, run: (t) => forwarded(t, false) },
  { name: 'speakers', about: 'tones that come and go', timeout: 60, run: speakers },
  { name: 'files', about: 'files of 20 MB between Chromium and Firefox', timeout: 120, run: files },
  { name: 'chromium-move-v1', about: 'moved to another room, one peer connection', timeout: 90, run: (t) => moved(t, true) },
  { name: 'chromium-move-v0', about: 'moved to another room, two peer connections', timeout: 90, run: (t) => moved(t, false) },
  { name: 'old-client', about: 'livekit-client 1.13.2 and 2.23 in one room', timeout: 90, over: ALL, run: withOldClient },
];
