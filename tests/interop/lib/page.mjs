// Participants that are browser pages with livekit-client.
import { token } from './token.mjs';
import { sleep, until } from './wait.mjs';

/** A page that has joined; `browser` is what startChromium or startFirefox answered. */
export class Page {
  static async join(test, browser, identity, { room = 'room', url = test.server.url, client = 'index', grant, claims, access, ...options } = {}) {
    const page = new Page(await browser.newPage(), identity);
    page.tab.on('console', (m) => {
      if (/error|warn/.test(m.type())) test.log(`[${identity}] ${m.text().slice(0, 400)}`);
    });
    page.tab.on('pageerror', (e) => test.log(`[${identity}] page error: ${e.message}`));
    await page.tab.goto(`${test.pages.base}/${client}.html`);
    const pass = access ?? (await token(identity, room, grant, claims));
    try {
      page.joined = await page.call('join', { url, token: pass, ...options });
    } catch (e) {
      throw new Error(`${identity} could not join: ${e.message.split('\n')[0]}`);
    }
    test.figure(`${identity} connected in ms`, page.joined.connectMs);
    return page;
  }

  constructor(tab, identity) {
    Object.assign(this, { tab, identity });
  }

  /** Calls a function of www/room.js; one pair, because playwright passes a single argument. */
  call(name, argument) {
    return this.tab.evaluate(([n, a]) => window[n](a), [name, argument]);
  }

  /** The counters of one track from `from`. */
  async track(from, kind) {
    return (await this.call('received')).find((x) => x.from === from && x.kind === kind);
  }

  events() {
    return this.tab.evaluate(() => window.seen.events);
  }

  leave() {
    return this.tab.evaluate(() => window.room.disconnect());
  }
}

/**
 * `page` decodes at least `fps` frames a second of `from`'s video for `seconds`, and its audio has
 * energy. Answers the last counters.
 */
export async function expectMedia(test, page, from, { seconds = 3, fps = 10, limit = 15_000 } = {}) {
  const flowing = await until(async () => (await page.track(from, 'video'))?.frames > 0, limit);
  test.check(flowing, `${page.identity} decoded no video of ${from} in ${limit / 1000} s`);
  if (!flowing) return undefined;
  const first = await page.track(from, 'video');
  await sleep(seconds * 1000);
  const video = await page.track(from, 'video');
  const frames = (video?.frames ?? 0) - first.frames;
  test.figure(`${page.identity} decoded of ${from} per s`, +(frames / seconds).toFixed(1));
  test.check(frames >= fps * seconds, `${page.identity} decoded ${frames} frames of ${from} in ${seconds} s`);
  const audio = await until(async () => {
    const a = await page.track(from, 'audio');
    return a?.energy > 0 && a;
  }, 5000);
  test.check(audio, `${page.identity} got no sound of ${from}`);
  return { video, audio };
}

/** Waits until `page` receives `from`'s video at `width`. */
export async function expectWidth(test, page, from, width, limit = 20_000) {
  const at = async () => (await page.track(from, 'video'))?.width;
  const t0 = Date.now();
  const reached = await until(async () => (await at()) === width, limit);
  test.check(reached, `${page.identity} receives ${from} at width ${await at()}, not ${width}, after ${limit / 1000} s`);
  if (reached) test.figure(`${page.identity} reached width ${width} in ms`, Date.now() - t0);
}

/** Waits until no frame of `from` arrives at `page` for two seconds. */
export async function expectStill(test, page, from, limit = 15_000) {
  const packets = async () => (await page.track(from, 'video'))?.packets ?? 0;
  const still = await until(async () => {
    const before = await packets();
    await sleep(2000);
    return (await packets()) === before;
  }, limit, 0);
  test.check(still, `${page.identity}'s hidden element still receives ${from} after ${limit / 1000} s`);
}
