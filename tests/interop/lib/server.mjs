// The server under test: its configuration, its process, and what the kernel says of it.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { freeTcpPort, freeUdpPort } from './network.mjs';
import { serverBinary } from './paths.mjs';
import { KEY, SECRET } from './token.mjs';
import { sleep, until, within } from './wait.mjs';

function yaml(value, indent = '') {
  return Object.entries(value)
    .map(([key, v]) => {
      if (Array.isArray(v)) return `${indent}${key}:\n${v.map((x) => `${indent}  - ${JSON.stringify(x)}\n`).join('')}`;
      if (v && typeof v === 'object') return `${indent}${key}:\n${yaml(v, `${indent}  `)}`;
      return `${indent}${key}: ${JSON.stringify(v)}\n`;
    })
    .join('');
}

/** Ports that are free now, for everything a server listens on. */
export async function freePorts() {
  return { http: await freeTcpPort(), tcp: await freeTcpPort(), udp: await freeUdpPort() };
}

/** Writes a livekit.yaml; `rtc` is merged into the media section, `more` into the top. */
export function writeSettings(dir, ports, rtc = {}, more = {}) {
  const file = path.join(dir, 'livekit.yaml');
  const settings = {
    port: ports.http,
    rtc: { udp_port: ports.udp, tcp_port: ports.tcp, ...rtc },
    keys: { [KEY]: SECRET },
    ...more,
  };
  fs.writeFileSync(file, yaml(settings), { mode: 0o600 });
  return file;
}

/** Media ports of the app: as many as a machine may have cores, from `ports.udp` on. */
const UDP_PORTS = 16;

/** Writes the options of the app, and answers the arguments that lead there; its own files go to `dir` too. */
function writeAppOptions(dir, ports, options) {
  const file = path.join(dir, 'options.json');
  const all = {
    http_port: ports.http,
    rtc_tcp_port: ports.tcp,
    rtc_udp_port_min: ports.udp,
    rtc_udp_port_max: ports.udp + UDP_PORTS - 1,
    api_key: KEY,
    api_secret: SECRET,
    ...options,
  };
  fs.writeFileSync(file, JSON.stringify(all), { mode: 0o600 });
  return ['--options', file, '--data', dir, '--run', dir, '--ssl', path.join(dir, 'ssl')];
}

/** Whether there is a good answer, whoever signed the certificate. */
function answers(url) {
  if (!url.startsWith('https')) return fetch(url).then((r) => r.ok, () => false);
  return new Promise((resolve) => {
    const query = https.get(url, { rejectUnauthorized: false, agent: false }, (r) => resolve(r.resume().statusCode === 200));
    query.on('error', () => resolve(false));
  });
}

export class Server {
  /**
   * Starts the server and waits for its first answer. With `app`, options of the Home Assistant app, it runs as that;
   * certificates are in `ssl` of `dir` then.
   * `isolated`: in a namespace every address is ours; outside it keeps to 127.0.0.1.
   */
  static async start(dir, { isolated, flags = [], rtc, more, dev = false, app } = {}) {
    const ports = await freePorts();
    const configured = app ? writeAppOptions(dir, ports, app) : ['--config', writeSettings(dir, ports, rtc, more)];
    const bound = isolated || flags.includes('--bind') ? [] : ['--bind', '127.0.0.1', '--node-ip', '127.0.0.1'];
    const server = new Server([...configured, ...bound, ...flags, ...(dev ? ['--dev'] : [])], dir, ports, app?.use_ssl);
    await server.ready();
    return server;
  }

  constructor(args, dir, ports, tls = false) {
    Object.assign(this, { ports, tls });
    this.log = path.join(dir, 'server.log');
    const fd = fs.openSync(this.log, 'a');
    this.started = performance.now();
    this.child = spawn(serverBinary(), args, { stdio: ['ignore', fd, fd] });
    fs.closeSync(fd);
    this.exit = new Promise((resolve) => {
      this.child.on('error', (e) => resolve({ error: e.message }));
      this.child.on('exit', (code, signal) => resolve({ code, signal }));
    });
    this.exit.then((e) => { this.exited = e; });
  }

  get http() { return `http${this.tls ? 's' : ''}://127.0.0.1:${this.ports.http}`; }
  get url() { return this.http.replace('http', 'ws'); }
  get pid() { return this.child.pid; }

  async ready() {
    const answered = async () => this.exited || answers(this.http);
    await until(answered, 10_000, 2);
    if (this.exited) throw new Error(`the server ended at start: ${JSON.stringify(this.exited)}: ${this.tail()}`);
    this.startMs = Math.round(performance.now() - this.started);
  }

  /** The last lines of its log. */
  tail(lines = 5) {
    return fs.readFileSync(this.log, 'utf8').trim().split('\n').slice(-lines).join(' | ');
  }

  /** Resident memory in kB. */
  rssKb() {
    return +/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1];
  }

  descriptors() {
    return fs.readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** User and system time in seconds. */
  cpuSeconds() {
    const stat = fs.readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** SIGTERM; resolves with {code, signal, ms}. */
  async terminate(limit = 15_000) {
    const t0 = performance.now();
    this.child.kill('SIGTERM');
    try {
      const exit = await within(limit, 'the server after SIGTERM', this.exit);
      return { ...exit, ms: Math.round(performance.now() - t0) };
    } catch (e) {
      this.child.kill('SIGKILL');
      throw e;
    }
  }

  /** Ends it at once: what a case does when it no longer cares. */
  async kill() {
    if (this.exited) return;
    this.child.kill('SIGKILL');
    await Promise.race([this.exit, sleep(2000)]);
  }
}
