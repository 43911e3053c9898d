// Home Assistant's Supervisor and the status page behind its ingress, seen by Chromium.
import fs from 'node:fs';
import path from 'node:path';
import { WebSocket } from 'ws';
import { HOST, raiseBridge, startApp, startNeighbour, STRANGER, SUPERVISOR } from '../lib/hassio.mjs';
import { freeTcpPort } from '../lib/network.mjs';
import { token as tokenFor } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

const TOKENS = { slow: 'token-of-slow-0123456789', refused: 'token-of-refused-0123456789', broken: 'token-of-broken-0123456789' };
const INGRESS = 'i0-Hh7ZkAQnN3sTt5uVvWwXxYyZz0123456789_abcd';
const ROOM = '<img src=x onerror=document.title="taken">\u202eroom';
/** Every path there is, and one that is not. */
const PATHS = [['GET', '/'], ['GET', '/status.json'], ['POST', '/secret'], ['GET', '/nothing']];
const LIMIT = 14_000;
const WINDOW = { width: 1000, height: 900 };

const logOf = (server) => fs.readFileSync(server.log, 'utf8');

/** The pair that the app has made. */
function kept(test) {
  const { api_key: key, api_secret: secret } = JSON.parse(fs.readFileSync(path.join(test.out, 'slow', 'keys.json'), 'utf8'));
  if (!key || secret?.length < 32) throw new Error('the app has kept no pair of key and secret');
  return { key, secret };
}

/** Supervisor's page, which has ours in a frame; notes all that goes wrong or elsewhere. */
async function open(test, browser, { dark = false } = {}) {
  const page = await browser.newPage();
  await page.setViewportSize(WINDOW);
  await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
  const prefix = `http://${SUPERVISOR}/api/hassio_ingress/${INGRESS}/`;
  page.on('request', (query) => {
    const url = query.url();
    const good = url.startsWith(prefix) || url.startsWith(`http://${SUPERVISOR}/?`) || url === 'data:,';
    test.check(good, `the page asks for ${url}`);
  });
  const seen = { page, isServed: true };
  page.on('console', (said) => test.check(!seen.isServed || !['error', 'warning'].includes(said.type()), `console: ${said.text()}`));
  page.on('pageerror', (e) => test.check(false, `the page: ${e.message}`));
  await page.goto(`http://${SUPERVISOR}/?token=${INGRESS}${dark ? '&dark' : ''}`);
  const frame = page.frameLocator('iframe');
  await frame.locator('#version:not(:empty)').waitFor({ timeout: 5000 });
  return Object.assign(seen, {
    frame,
    text: (id) => frame.locator(`#${id}`).innerText(),
    shot: (name) => page.screenshot({ path: path.join(test.out, `${name}.png`) }),
  });
}

/** Nobody but Supervisor gets anything, by whatever name he calls himself. */
async function strangersAreRefused(test, stranger, port) {
  const { secret } = kept(test);
  for (const [method, where] of PATHS) {
    const forged = { 'x-forwarded-for': SUPERVISOR, 'x-ingress-path': '/api/hassio_ingress/x', 'x-remote-user-name': 'admin' };
    for (const headers of [{}, forged]) {
      const { status, text } = await stranger.fetch(`http://${HOST}:${port}${where}`, method, headers);
      test.check(status === 403 && !text.includes(secret), `a stranger's ${method} ${where} is answered ${status}: ${text.slice(0, 80)}`);
    }
    const own = await fetch(`http://${HOST}:${port}${where}`, { method });
    test.check(own.status === 403, `${method} ${where} of the host itself is answered ${own.status}`);
  }
  for (const address of ['127.0.0.1', '10.99.0.1']) {
    const answer = await fetch(`http://${address}:${port}/`).then((r) => r.status, (e) => e.cause?.code);
    test.check(answer === 'ECONNREFUSED', `ingress on ${address}: ${answer}`);
  }
}

/** The port of the clients shows neither the page nor the secret, to Supervisor neither. */
async function publicPortShowsNothing(test, supervisor, server) {
  const { secret } = kept(test);
  for (const [method, where] of PATHS.slice(1)) {
    const { status, text } = await supervisor.fetch(`http://${HOST}:${server.ports.http}${where}`, method);
    test.check(status >= 400 && !text.includes(secret), `${method} ${where} on http_port is answered ${status}`);
  }
  const { text } = await supervisor.fetch(`http://${HOST}:${server.ports.http}/`);
  test.check(!text.includes('<h1>'), 'http_port serves the page');
}

/** Somebody in a call, by the key that the page shows. */
async function join(test, server, { key, secret }) {
  const access = await tokenFor('somebody', ROOM, {}, { key, secret });
  const ws = new WebSocket(`${server.url}/rtc?access_token=${access}&protocol=17&sdk=js&auto_subscribe=1`);
  ws.on('error', (e) => test.check(false, `somebody's join: ${e.message}`));
  test.closing(ws, () => ws.terminate());
}

/** Shows key and secret, copies one to Home Assistant's page, joins with both, hides them. */
async function usesTheSecret(test, { page, frame, text, shot }, server) {
  const { key, secret } = kept(test);
  const everything = () => frame.locator('html').innerHTML();
  test.check(!(await everything()).includes(secret), 'the secret is in the page before anybody asked for it');
  await frame.getByRole('button', { name: 'Show' }).click();
  await frame.locator('#login').waitFor({ state: 'visible', timeout: 3000 });
  const shown = { key: await text('key'), secret: await text('secret') };
  test.check(shown.key === key && shown.secret === secret, 'the page shows another key and secret than the app has');
  await page.setViewportSize({ width: 360, height: 740 });
  const wider = await frame.locator('html').evaluate((html) => html.scrollWidth - html.clientWidth);
  test.check(wider <= 0, `on a phone the page is ${wider} px too wide`);
  await shot('phone');
  await page.setViewportSize(WINDOW);
  await frame.getByRole('button', { name: 'Copy the secret' }).click();
  await page.locator('#paste').focus();
  await page.keyboard.press('Control+V');
  test.check(await page.locator('#paste').inputValue() === secret, 'Copy did not copy the secret');
  await page.locator('#paste').fill('');
  await join(test, server, shown);
  const listed = await until(async () => (await text('rooms')).includes('<img src=x'), 6000);
  test.check(listed, `a room is not listed: ${await text('rooms').catch((e) => e.message)}`);
  test.check(await text('counts') === '1 person in 1 room', `calls: ${await text('counts')}`);
  test.check(await page.title() === 'Home Assistant' && !(await frame.locator('img').count()), 'the name of a room became markup');
  await frame.getByRole('button', { name: 'Hide' }).click();
  test.check(!(await everything()).includes(secret), 'the secret is in the page after it was hidden');
}

/** Starts three apps while Supervisor is silent; one of them is answered at the fourth time. */
async function startsEarly(test, supervisor, port) {
  // Answers what is no answer twice; the first attempt meets a closed port.
  await supervisor.answer(TOKENS.slow, [{ status: 400 }, { body: '{"result":"ok","data":' }, { port }]);
  await supervisor.answer(TOKENS.refused, [{ status: 401 }]);
  await supervisor.answer(TOKENS.broken, [{ status: 500 }]);
  const apps = {};
  for (const name of Object.keys(TOKENS)) {
    apps[name] = await startApp(test, name, TOKENS[name]);
    test.check(apps[name].startMs < 2000, `with a silent Supervisor the first answer took ${apps[name].startMs} ms`);
  }
  await supervisor.listen();
  return apps;
}

/** Each try waits about twice as long as the one before, with up to a half more. */
async function backsOff(test, supervisor) {
  const queries = await supervisor.queries();
  const wrong = queries.filter(({ token, line }) => !Object.values(TOKENS).includes(token) || line !== 'GET /addons/self/info');
  test.check(!wrong.length, `Supervisor was asked ${JSON.stringify(wrong)}`);
  const times = queries.filter(({ token }) => token === TOKENS.slow).map(({ at }) => at);
  const gaps = times.slice(1).map((at, i) => (at - times[i]) / 1000);
  test.figure('pauses in s', gaps);
  const good = gaps.length === 2 && gaps.every((gap, i) => gap >= 2 * (i + 1) && gap < 3 * (i + 1) + 0.5);
  test.check(good, `it was asked at intervals of ${gaps.join(', ')} s`);
}

async function ingress(test) {
  const [supervisor, stranger] = await Promise.all([SUPERVISOR, STRANGER].map((address) => startNeighbour(test, address)));
  const port = await freeTcpPort();
  const apps = await startsEarly(test, supervisor, port);
  const browser = await test.chromium();

  const opened = await until(() => logOf(apps.slow).includes(`ingress on ${HOST}:${port}`), LIMIT, 50);
  if (!test.check(opened, `no listener for ingress: ${apps.slow.tail()}`)) return;
  await backsOff(test, supervisor);
  await supervisor.lead(INGRESS, port);
  await strangersAreRefused(test, stranger, port);
  await publicPortShowsNothing(test, supervisor, apps.slow);

  const seen = await open(test, browser);
  const address = await seen.text('url');
  test.check(address === `http://10.99.0.1:${apps.slow.ports.http}`, `without a domain people connect to ${address}`);
  const bound = await seen.text('bound');
  test.check(bound.includes(`:${apps.slow.ports.http}`) && bound.includes(`:${apps.slow.ports.udp}`), `listening: ${bound}`);
  await usesTheSecret(test, seen, apps.slow);
  await seen.shot('light');
  await seen.page.close();

  for (const [name, said] of [['refused', "does not know this app's token"], ['broken', 'answers with HTTP status 500']]) {
    const line = () => logOf(apps[name]).split('\n').filter((l) => l.includes('no status page in Home Assistant yet'));
    await until(() => line().length, LIMIT, 50);
    test.check(line().length === 1 && line()[0].includes(said) && line()[0].includes('restart the app'), `${name}: ${apps[name].tail()}`);
    test.check((await fetch(apps[name].http)).ok, `${name}: it does not serve calls`);
  }

  await restarts(test, supervisor, browser, apps.slow);
  for (const [name, app] of Object.entries(apps)) {
    const log = logOf(app);
    test.check(!log.includes(TOKENS[name]) && !log.includes('token-of-again'), `${name}: the token is in the log`);
    test.check(!log.includes(kept(test).secret) && !log.includes('panicked'), `${name}: the secret or a panic is in the log`);
  }
}

/** After a restart there is another port and another token, and the page tells what the new options say. */
async function restarts(test, supervisor, browser, before) {
  const end = await before.terminate();
  test.check(end.code === 0 && end.ms < 5000, `SIGTERM ended it with ${JSON.stringify(end)}`);
  const port = await freeTcpPort();
  await supervisor.answer('token-of-again', [{ port }]);
  await supervisor.lead(INGRESS, port);
  const options = { domain: 'calls.example.org', turn_enabled: true, turn_servers: ['turn:turn.example.org'] };
  const app = await startApp(test, 'slow', 'token-of-again', options, before.ports);
  const opened = await until(() => logOf(app).includes(`ingress on ${HOST}:${port}`), 3000, 50);
  if (!test.check(opened, `after a restart: ${app.tail()}`)) return;
  const seen = await open(test, browser, { dark: true });
  test.check(await seen.text('url') === 'https://calls.example.org', `people connect to ${await seen.text('url')}`);
  const problems = await seen.text('problems');
  test.check(problems.includes('turn_static_auth_secret'), `problems: ${problems}`);
  await seen.shot('dark');
  seen.isServed = false;
  await app.kill();
  const gone = await until(async () => (await seen.text('state')).includes('no answer'), 6000);
  test.check(gone, `without the app the page says ${await seen.text('state')}`);
}

export const ingressCases = [
  { name: 'ingress', about: "Home Assistant's Supervisor, its ingress, and the status page in Chromium", timeout: 60, server: false, before: raiseBridge, run: ingress },
];
