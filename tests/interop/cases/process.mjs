// The server as a process: what it answers to bad tokens, how it starts, idles and stops.
import { SignalResponse } from '@livekit/protocol';
import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { WebSocket } from 'ws';
import { Page } from '../lib/page.mjs';
import { serverBinary } from '../lib/paths.mjs';
import { freePorts, writeSettings } from '../lib/server.mjs';
import { token } from '../lib/token.mjs';
import { sleep, until, within } from '../lib/wait.mjs';

const LONG = 'i'.repeat(300);
const EXPIRED = 'invalid authorization token: token has invalid claims: token is expired';
const FORGED = 'invalid authorization token: token signature is invalid: signature is invalid';

/** What /rtc/validate answers: [what, token, status, text]. */
const REFUSALS = [
  ['a good token', () => token('a', 'r'), 200, 'success'],
  ['no token', () => undefined, 401, 'no permissions to access the room'],
  ['garbage', () => 'a.b.c', 401, 'invalid authorization token'],
  ['an expired token', () => token('a', 'r', {}, { ttl: -120 }), 401, EXPIRED],
  ['a wrong secret', () => token('a', 'r', {}, { secret: 'y'.repeat(36) }), 401, FORGED],
  ['an unknown key', () => token('a', 'r', {}, { key: 'nokey' }), 401, 'invalid API key'],
  ['no roomJoin', () => token('a', 'r', { roomJoin: false }), 401, 'permissions denied'],
  ['no room', () => token('a', undefined), 400, 'no room name'],
  ['an identity of 300', () => token(LONG, 'r'), 400, 'participant identity length exceeds limits: max length 256'],
  ['a room of 300', () => token('a', LONG), 400, 'room name length exceeds limits: max length 256'],
];

async function refusals(test) {
  const ask = async (url, headers) => {
    const answer = await fetch(url, { headers });
    return { status: answer.status, text: (await answer.text()).trim(), origin: answer.headers.get('access-control-allow-origin') };
  };
  for (const [what, make, status, text] of REFUSALS) {
    const access = await make();
    const url = `${test.server.http}/rtc/validate`;
    const byHeader = await ask(url, access ? { authorization: `Bearer ${access}` } : {});
    const byQuery = await ask(`${url}${access ? `?access_token=${access}` : ''}`, {});
    for (const [way, got] of [['header', byHeader], ['query', byQuery]]) {
      test.check(got.status === status && got.text === text, `${what} (${way}): ${got.status} ${got.text}, not ${status} ${text}`);
      test.check(got.origin === '*', `${what} (${way}): a page may not read the answer (${got.origin})`);
    }
  }
  const bare = await ask(`${test.server.http}/rtc/validate`, { authorization: 'Basic x' });
  test.check(bare.status === 401 && bare.text.startsWith('invalid authorization header'), `no Bearer: ${JSON.stringify(bare)}`);
  const v1 = await ask(`${test.server.http}/rtc/v1/validate`, { authorization: `Bearer ${await token('a', 'r')}` });
  test.check(v1.status === 400 && v1.text === 'join_request is required', `v1 without a request: ${JSON.stringify(v1)}`);
  for (const access of ['a.b.c', await token('a', 'r', {}, { key: 'nokey' })]) {
    const ws = new WebSocket(`${test.server.url}/rtc?access_token=${access}`);
    const [, answer] = await within(5000, 'a refused WebSocket', once(ws, 'unexpected-response'));
    test.check(answer.statusCode === 401, `a WebSocket with a bad token: ${answer.statusCode}`);
    ws.on('error', () => {}).terminate();
  }
}

/** A participant that only reads its signalling messages. */
async function listener(test, identity) {
  const ws = new WebSocket(`${test.server.url}/rtc?access_token=${await token(identity, 'room')}&protocol=17&sdk=js&auto_subscribe=1`);
  const kinds = [];
  const closed = new Promise((resolve) => ws.on('close', (code) => resolve(code)));
  ws.on('message', (data) => kinds.push(SignalResponse.fromBinary(data).message));
  ws.on('error', (e) => test.check(false, `${identity}: ${e.message}`));
  await within(5000, `${identity}'s join`, until(() => kinds.some((m) => m.case === 'join'), 5000, 20));
  return { kinds, closed };
}

async function stops(test) {
  const page = await Page.join(test, await test.chromium(), 'page');
  const people = [];
  for (let n = 1; n < 20; n += 1) people.push(await listener(test, `listener-${n}`));
  test.ended = true;
  const end = await test.server.terminate();
  test.figure('ended after ms', end.ms);
  test.check(end.code === 0, `SIGTERM ended it with ${JSON.stringify(end)}`);
  test.check(end.ms < 5000, `it took ${end.ms} ms to end`);
  for (const { kinds, closed } of people) {
    const code = await within(2000, 'the close of a WebSocket', closed);
    const leave = kinds.find((m) => m.case === 'leave')?.value;
    test.check(leave, 'a participant was not told to leave');
    test.figure('leave', leave && JSON.stringify(leave.toJson()));
    test.figure('close code', code);
  }
  const told = async () => (await page.events()).some(([, name]) => /Reconnecting|Disconnected/.test(name));
  test.check(await until(told, 3000), 'the page did not notice');
  const log = fs.readFileSync(test.server.log, 'utf8');
  test.check(!/ERROR|WARN/.test(log), `the log has errors: ${log.slice(-1000)}`);
}

/** Starts a server that cannot have one of its ports, and answers its exit and all it said. */
async function startWithout(test, ports, name) {
  const file = writeSettings(test.out, ports);
  const child = spawn(serverBinary(), ['--config', file]);
  test.closing(child, () => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (d) => { said += d; });
  const code = await within(10_000, `a server whose ${name} is taken`, once(child, 'exit').then(([c]) => c));
  fs.writeFileSync(path.join(test.out, `${name}.log`), said);
  return { code, said };
}

async function portsInUse(test) {
  const tcp = () => new Promise((resolve) => { const s = net.createServer().listen(0, '0.0.0.0', () => resolve(s)); });
  const udp = () => new Promise((resolve) => { const s = dgram.createSocket('udp4').bind(0, '0.0.0.0', () => resolve(s)); });
  for (const [key, option, take] of [['http', 'port', tcp], ['tcp', 'tcp_port', tcp], ['udp', 'udp_port', udp]]) {
    const taken = test.closing(await take());
    const { port } = taken.address();
    const { code, said } = await startWithout(test, { ...(await freePorts()), [key]: port }, option);
    test.check(code > 0, `${option} in use: it ended with ${code}`);
    test.check(said.includes(String(port)), `${option} in use: it does not name port ${port}: ${said.trim().slice(-300)}`);
    test.check(new RegExp(`\\b${option}\\b`).test(said), `${option} in use: it does not name the option: ${said.trim().slice(-300)}`);
  }
}

/** Limits are the promise plus slack for a busy machine; the figures are the promise's measure. */
async function idles(test) {
  await sleep(2000);
  const cpu = test.server.cpuSeconds();
  await sleep(15_000);
  const percent = ((test.server.cpuSeconds() - cpu) / 15) * 100;
  const rss = test.server.rssKb() / 1024;
  test.figure('idle CPU in %', +percent.toFixed(2));
  test.figure('idle RSS in MB', +rss.toFixed(1));
  test.check(percent < 1, `it idles at ${percent.toFixed(2)} % of a core`);
  test.check(rss < 24, `it idles with ${rss.toFixed(1)} MB`);
  test.check(test.server.startMs < 1000, `its first answer took ${test.server.startMs} ms`);
}

export const processCases = [
  { name: 'refusals', about: 'what each kind of bad token is answered', timeout: 30, run: refusals },
  { name: 'idle', about: 'CPU, memory, time to the first answer', timeout: 40, run: idles },
  { name: 'ports-in-use', about: 'a taken port is named with its option', timeout: 60, server: false, run: portsInUse },
  { name: 'stop', about: 'SIGTERM with twenty participants', timeout: 60, run: stops },
];
