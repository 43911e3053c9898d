// Home Assistant's bridge in the namespace of a case: the host is 172.30.32.1, Supervisor and a stranger are machines
// of their own, `supervisor` is a name that leads to the one.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { inRoot } from './paths.mjs';
import { freePorts, Server } from './server.mjs';
import { Skip } from './test.mjs';

export const HOST = '172.30.32.1';
export const SUPERVISOR = '172.30.32.2';
export const STRANGER = '172.30.32.5';

const sbin = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } };
const run = (command, ...args) => execFileSync(command, args, { ...sbin, stdio: 'pipe' });

/** Makes the bridge; needs a namespace. */
export function raiseBridge(test) {
  if (!test.isolated) throw new Skip('needs a network namespace');
  run('ip', 'link', 'add', 'hassio', 'type', 'bridge');
  run('ip', 'addr', 'add', `${HOST}/23`, 'dev', 'hassio');
  run('ip', 'link', 'set', 'hassio', 'up');
  // The mounts are the case's own, too.
  const hosts = path.join(test.out, 'hosts');
  fs.writeFileSync(hosts, `${fs.readFileSync('/etc/hosts', 'utf8')}\n${SUPERVISOR} supervisor\n`);
  run('mount', '--bind', hosts, '/etc/hosts');
}

/** A machine on the bridge: its methods are the calls of clients/neighbour.mjs. */
export async function startNeighbour(test, address) {
  const log = fs.openSync(path.join(test.out, `${address}.log`), 'w');
  const words = ['--net', process.execPath, inRoot('clients/neighbour.mjs'), `${address}/23`];
  const child = spawn('unshare', words, { stdio: ['ignore', log, log, 'ipc'] });
  fs.closeSync(log);
  test.closing(child, () => child.kill('SIGKILL'));
  const waiting = new Map();
  child.on('message', ({ id, value, error }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(`${address}: ${error}`));
    else resolve(value);
  });
  const ended = new Promise((_, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${address} ended with ${code}`)));
  });
  ended.catch(() => {});
  const answer = (id) => Promise.race([ended, new Promise((resolve, reject) => { waiting.set(id, { resolve, reject }); })]);
  await answer(0);
  let last = 0;
  const neighbour = new Proxy({}, {
    get: (_, call) => (call === 'then' ? undefined : (...args) => {
      last += 1;
      child.send({ id: last, call, args });
      return answer(last);
    }),
  });
  const port = `to${address.split('.')[3]}`;
  run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(child.pid));
  run('ip', 'link', 'set', port, 'master', 'hassio', 'up');
  await neighbour.start();
  return neighbour;
}

/** Starts the app as Supervisor does, with these options and that token; its own files are in `dir`. */
export async function startApp(test, name, token, options = {}, ports = undefined) {
  const dir = path.join(test.out, name);
  fs.mkdirSync(dir, { recursive: true });
  const taken = ports ?? await freePorts();
  const file = path.join(dir, 'options.json');
  const all = {
    http_port: taken.http,
    rtc_tcp_port: taken.tcp,
    rtc_udp_port_min: taken.udp,
    rtc_udp_port_max: taken.udp + 15,
    ...options,
  };
  fs.writeFileSync(file, JSON.stringify(all));
  // What we start takes it from us.
  process.env.SUPERVISOR_TOKEN = token;
  const server = new Server(['--options', file, '--data', dir, '--run', dir, '--ssl', dir], dir, taken);
  delete process.env.SUPERVISOR_TOKEN;
  test.closing(server, () => server.kill());
  await server.ready();
  return server;
}
