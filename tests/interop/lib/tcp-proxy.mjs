// A TCP proxy whose line can be cut: what is open is reset, and nobody gets through until it is restored. Who tries
// meanwhile is refused, or is held until then.
import net from 'node:net';

export class TcpProxy {
  static async start(target) {
    const proxy = new TcpProxy(target);
    await proxy.listen(0);
    return proxy;
  }

  constructor(target) {
    Object.assign(this, { target, open: new Set(), held: [], isCut: false, holds: false });
  }

  get url() { return `ws://127.0.0.1:${this.server.address().port}`; }

  listen(port) {
    this.server = net.createServer((client) => this.connect(client));
    return new Promise((resolve, reject) => this.server.once('error', reject).listen(port, '127.0.0.1', resolve));
  }

  connect(client) {
    if (this.isCut && this.holds) {
      this.held.push(client.on('error', () => {}));
      return;
    }
    if (this.isCut) {
      client.resetAndDestroy();
      return;
    }
    const server = net.connect(this.target, '127.0.0.1');
    for (const [here, there] of [[client, server], [server, client]]) {
      this.open.add(here);
      here.pipe(there);
      here.on('error', () => {}).on('close', () => { this.open.delete(here); there.destroy(); });
    }
  }

  cut({ holds = false } = {}) {
    Object.assign(this, { isCut: true, holds });
    for (const socket of this.open) socket.resetAndDestroy();
  }

  restore() {
    this.isCut = false;
    for (const client of this.held.splice(0)) if (!client.destroyed) this.connect(client);
  }

  close() {
    this.cut();
    for (const client of this.held.splice(0)) client.destroy();
    this.server.close();
  }
}
