// What a case is given: its server, its clients, its checks; all that it starts ends with it.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { servePages, startChromium, startFirefox } from './browsers.mjs';
import { filterInput, hasNftables } from './network.mjs';
import { Recorder } from './recorder.mjs';
import { Server } from './server.mjs';
import { CLIENT_SIDE, SERVER_SIDE, UdpProxy } from './udp-proxy.mjs';

/** Thrown by a case that cannot run on this machine. */
export class Skip extends Error {}

export class Test {
  constructor(definition, out, isolated) {
    Object.assign(this, { definition, out, isolated, problems: [], figures: {}, closers: [], start: Date.now() });
    this.logFile = path.join(out, 'case.log');
  }

  log(text) {
    fs.appendFileSync(this.logFile, `${text}\n`);
  }

  /** Notes a problem unless `condition` holds; the case goes on. */
  check(condition, problem) {
    if (!condition) this.problems.push(problem);
    return Boolean(condition);
  }

  /** Notes a number for the report. */
  figure(name, value) {
    this.figures[name] = value;
  }

  /** Registers what must be closed at the end, and passes it on. */
  closing(thing, close = () => thing.close()) {
    this.closers.push(close);
    return thing;
  }

  needNamespace() {
    if (!this.isolated || !hasNftables()) throw new Skip('needs a network namespace and nftables');
  }

  async startServer(settings = this.definition.server ?? {}) {
    const server = await Server.start(this.out, { isolated: this.isolated, ...settings });
    this.server = this.closing(server, () => server.kill());
    this.figure('server start in ms', server.startMs);
    return server;
  }

  async startPages() {
    this.pages ??= this.closing(await servePages());
  }

  /** With these flags beside the usual ones. */
  async chromium(...flags) {
    await this.startPages();
    return this.closing(await startChromium(flags));
  }

  async firefox() {
    await this.startPages();
    return this.closing(await startFirefox());
  }

  /**
   * Puts a bad line between the clients and the server, which must run with `LOSSY_SERVER`. In a
   * namespace a firewall closes the way around the proxy, which the server's own checks would open.
   */
  async badLine(line) {
    const { udp } = this.server.ports;
    if (this.isolated && hasNftables()) {
      filterInput(
        `udp sport ${udp} ip saddr != ${CLIENT_SIDE} ip daddr != ${SERVER_SIDE} drop`,
        `udp dport ${udp} ip saddr != ${SERVER_SIDE} ip daddr != ${CLIENT_SIDE} drop`,
      );
    }
    const proxy = this.closing(await UdpProxy.start(udp, line));
    this.closing(proxy, () => {
      this.figure('packets through the bad line', proxy.stats);
      this.check(Math.min(proxy.stats.up, proxy.stats.down) > 100, `almost nothing took the bad line: ${JSON.stringify(proxy.stats)}`);
    });
    return proxy;
  }

  /** A recording proxy in front of the server; its `url` is what clients are given. */
  async recorder(file) {
    return this.closing(await Recorder.start(this.server.http, file));
  }

  /**
   * Runs a client program to its end. Its output goes to OUT/NAME.out and .err; the last thing on
   * its standard output is JSON, which is answered together with the exit code. One that does not end is ended five
   * seconds before the case is, or after `limit` ms: asked first, so that it can say where it hangs.
   */
  async client(name, command, args, limit = this.definition.timeout * 1000 - 5000 - (Date.now() - this.start)) {
    const [out, err] = ['out', 'err'].map((end) => path.join(this.out, `${name}.${end}`));
    const fds = [out, err].map((file) => fs.openSync(file, 'w'));
    const child = spawn(command, args, { stdio: ['ignore', ...fds] });
    fds.forEach((fd) => fs.closeSync(fd));
    this.closing(child, () => child.kill('SIGKILL'));
    const timers = ['SIGTERM', 'SIGABRT', 'SIGKILL'].map((signal, i) => setTimeout(() => child.kill(signal), limit + i * 1000));
    const code = await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (c, signal) => resolve(c ?? signal));
    });
    timers.forEach(clearTimeout);
    // rtc-node logs to standard output too, also after the last word.
    const lines = fs.readFileSync(out, 'utf8').split('\n');
    const text = lines.filter((line) => !/^\{"level":\d+,/.test(line)).join('\n').trim();
    const json = parsed(text) ?? parsed(text.slice(text.lastIndexOf('\n{') + 1));
    if (json) return { code, json };
    const said = fs.readFileSync(err, 'utf8').trim();
    this.log(`${name} ended with ${code}: ${said.slice(-1500)}`);
    return { code, said: said.split('\n').slice(-40).join(' | ') };
  }

  /** Ends everything, the last started first. */
  async close() {
    for (const close of this.closers.reverse()) {
      try {
        await close();
      } catch (e) {
        this.log(`closing: ${e.message}`);
      }
    }
    this.closers = [];
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The server behind a bad line: its one candidate is the proxy's address, and there is no ICE-TCP. */
export const LOSSY_SERVER = { flags: ['--bind', '127.0.0.1', '--node-ip', CLIENT_SIDE], rtc: { tcp_port: 0 } };
