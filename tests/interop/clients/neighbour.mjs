// A machine on the bridge of Home Assistant's apps, in a network namespace of its own. It does what the case tells it
// over the channel to its parent, and answers {id, value} or {id, error}. It can be Home Assistant's Supervisor, which
// here is Home Assistant too: it answers `GET /addons/self/info`, passes ingress on, and shows it in a frame.
//   node clients/neighbour.mjs ADDRESS/BITS      after `start`, its interface is `eth0`
import { execFileSync } from 'node:child_process';
import http from 'node:http';

const HOST = '172.30.32.1';
const PREFIX = /^(\/api\/hassio_ingress\/([^/]+))(\/.*)$/;
const own = process.argv[2];
const sbin = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } };
const ip = (...words) => execFileSync('ip', words, { ...sbin, stdio: 'pipe' });

/** What each token of an app is answered, one after the other, the last one for ever. */
const answers = new Map();
/** Where each token of ingress leads. */
const ports = new Map();
const queries = [];

const reply = (response, status, body, type = 'application/json') =>
  response.writeHead(status, { 'content-type': type }).end(body);

function info(query, response) {
  const token = /^Bearer (.+)$/.exec(query.headers.authorization ?? '')?.[1];
  queries.push({ token, line: `${query.method} ${query.url}`, at: Date.now() });
  const list = answers.get(token) ?? [{ status: 401 }];
  const { status = 200, body, port } = list.length > 1 ? list.shift() : list[0];
  if (!port) return reply(response, status, body ?? '{"result":"error","message":"as the case wants it"}');
  const data = { slug: 'parlor', state: 'started', ip_address: HOST, ingress: true, ingress_port: port };
  return reply(response, 200, JSON.stringify({ result: 'ok', data }));
}

/** As `supervisor/api/ingress.py` does: without the prefix, with what it knows about the user. */
function ingress(query, response, [, prefix, token, path]) {
  const headers = {
    ...query.headers,
    'x-ingress-path': prefix,
    'x-forwarded-for': query.socket.remoteAddress,
    'x-forwarded-host': query.headers.host,
    'x-forwarded-proto': 'http',
    'x-remote-user-id': '0123456789abcdef0123456789abcdef',
    'x-remote-user-name': 'admin',
  };
  const further = http.request({ host: HOST, port: ports.get(token), path, method: query.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  further.on('error', () => reply(response, 502, '502: Bad Gateway', 'text/plain'));
  query.pipe(further);
}

/** Home Assistant's own page, with the colours of its theme, and a field to paste to. */
function frame(token, dark) {
  const [back, front, card, edge] = dark ? ['#111', '#e1e1e1', '#1c1c1c', '#3a3a3a'] : ['#fafafa', '#141414', '#fff', '#e0e0e0'];
  return `<!doctype html><html lang="en"><title>Home Assistant</title><link rel="icon" href="data:,">
<style>html { --primary-background-color: ${back}; --primary-text-color: ${front}; --card-background-color: ${card};
  --divider-color: ${edge}; --primary-color: #009ac7 }
  body { margin: 0; background: ${back}; color: ${front} } textarea { width: 60% } iframe { border: 0; width: 100%; height: 92vh }</style>
<label>Home Assistant <textarea id="paste" rows="1"></textarea></label>
<iframe title="Parlor" src="/api/hassio_ingress/${token}/"></iframe></html>`;
}

function serve(query, response) {
  const url = new URL(query.url, 'http://supervisor');
  const matched = PREFIX.exec(query.url);
  if (url.pathname === '/addons/self/info') info(query, response);
  else if (matched && ports.has(matched[2])) ingress(query, response, matched);
  else if (url.pathname === '/') reply(response, 200, frame(url.searchParams.get('token'), url.searchParams.has('dark')), 'text/html');
  else reply(response, 404, '404: Not Found', 'text/plain');
}

const calls = {
  start() {
    ip('link', 'set', 'lo', 'up');
    ip('addr', 'add', own, 'dev', 'eth0');
    ip('link', 'set', 'eth0', 'up');
  },
  /** Begins to be Supervisor; until then its port is closed. */
  listen: () => new Promise((resolve, reject) => {
    http.createServer(serve).on('error', reject).listen(80, own.split('/')[0], () => resolve());
  }),
  answer: (token, list) => { answers.set(token, list); },
  lead: (token, port) => { ports.set(token, port); },
  queries: () => queries,
  /** What that URL answers to this machine: status and text, or how it fails. */
  fetch: (url, method = 'GET', headers = {}) => fetch(url, { method, headers, signal: AbortSignal.timeout(3000) }).then(
    async (answer) => ({ status: answer.status, text: await answer.text() }),
    (e) => ({ status: 0, text: e.cause?.code ?? e.name }),
  ),
};

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, value: await calls[call](...args) });
  } catch (e) {
    process.send({ id, error: e.message });
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ id: 0 });
