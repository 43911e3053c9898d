// A UDP proxy with a bad line: loss, delay and reordering, the same each time for one seed.
//
// The server runs with `--bind 127.0.0.1 --node-ip 127.0.0.2`; the proxy owns 127.0.0.2 on the
// server's own port, so the one candidate that clients are told leads here. Every client address
// has an upstream socket of its own, bound to 127.0.0.3: a firewall rule can tell these from
// clients that try to go around.
import dgram from 'node:dgram';

export const CLIENT_SIDE = '127.0.0.2';
export const SERVER_SIDE = '127.0.0.3';
const MAX_CLIENTS = 1000;
/** What a thin line holds before it drops, ms. */
const QUEUE = 100;

/** mulberry32: small, seeded, good enough to drop packets by. */
function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const bind = (socket, port, address) =>
  new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, address, () => {
      socket.off('error', reject);
      socket.on('error', () => {}); // ECONNREFUSED of a peer that has left
      resolve();
    });
  });

export class UdpProxy {
  /**
   * `loss`: share of packets dropped, each way. `delay`: ms, each way. `reorder`: share of packets
   * that are held back `held` ms longer than those behind them. `thin`: bits per second to each
   * client, no limit if 0; a queue of 100 ms stands before it.
   */
  static async start(port, { loss = 0, delay = 0, reorder = 0, held = 20, thin = 0, seed = 1, listen = CLIENT_SIDE, upstream = '127.0.0.1' } = {}) {
    const proxy = new UdpProxy(port, { loss, delay, reorder, held, thin, upstream }, random(seed));
    await bind(proxy.front, port, listen);
    return proxy;
  }

  constructor(port, line, dice) {
    Object.assign(this, { port, line, dice });
    this.stats = { up: 0, down: 0, dropped: 0, reordered: 0 };
    this.clients = new Map();
    this.front = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 21, sendBufferSize: 1 << 21 });
    this.front.on('message', (packet, from) => this.fromClient(packet, from));
  }

  async fromClient(packet, { address, port }) {
    const name = `${address}:${port}`;
    if (!this.clients.has(name)) {
      if (this.clients.size >= MAX_CLIENTS) return;
      const back = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 21 });
      const line = { freeAt: 0 };
      back.on('message', (answer) => this.cross('down', answer, () => this.front.send(answer, port, address), line));
      this.clients.set(name, bind(back, 0, SERVER_SIDE).then(() => back));
    }
    const back = await this.clients.get(name);
    this.cross('up', packet, () => back.send(packet, this.port, this.line.upstream));
  }

  /** How long a packet waits for those before it, ms; too long for the queue is for ever. */
  queue(packet, line) {
    if (!this.line.thin || !line) return 0;
    const now = performance.now();
    const wait = Math.max(0, line.freeAt - now);
    if (wait > QUEUE) return Infinity;
    line.freeAt = now + wait + (packet.length * 8000) / this.line.thin;
    return wait;
  }

  cross(way, packet, send, line) {
    const { loss, delay, reorder, held } = this.line;
    const queued = this.queue(packet, line);
    if (this.dice() < loss || queued === Infinity) {
      this.stats.dropped += 1;
      return;
    }
    this.stats[way] += 1;
    const late = this.dice() < reorder;
    if (late) this.stats.reordered += 1;
    const wait = delay + queued + (late ? held : 0);
    const guarded = () => { if (!this.closed) send(); };
    if (wait) setTimeout(guarded, wait);
    else guarded();
  }

  async close() {
    this.closed = true;
    this.front.close();
    for (const back of this.clients.values()) (await back).close();
  }
}
