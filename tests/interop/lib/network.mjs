// The network of a case: a namespace of its own where the machine allows it, else plain loopback.
//
// In a namespace there is `lo` and a veth pair with 10.99.0.1, because the Python SDK and Firefox
// gather no candidate on loopback. Nothing in it reaches, or is reached from, anything outside.
import { execFileSync, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import net from 'node:net';

const sbin = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } };
const run = (command, ...args) => execFileSync(command, args, { ...sbin, stdio: 'pipe' });

/**
 * The words that put a command into namespaces of its own, or none. The process namespace makes
 * sure that a browser's helpers die with their case.
 */
export function unshareWords() {
  const pid = ['--pid', '--fork', '--mount-proc', '--kill-child'];
  for (const user of [[], ['--map-root-user']]) {
    const words = ['unshare', '--net', ...user, ...pid];
    const probe = [...words.slice(1), 'ip', 'link', 'set', 'lo', 'up'];
    if (spawnSync(words[0], probe, { ...sbin, stdio: 'ignore' }).status === 0) return words;
  }
  return [];
}

/** Brings up the interfaces of a fresh namespace. */
export function raiseInterfaces() {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'link', 'add', 'lab0', 'type', 'veth', 'peer', 'name', 'lab1');
  run('ip', 'addr', 'add', '10.99.0.1/24', 'dev', 'lab0');
  run('ip', 'link', 'set', 'lab0', 'up');
  run('ip', 'link', 'set', 'lab1', 'up');
  run('ip', 'route', 'add', 'default', 'dev', 'lab0');
}

/** nftables rules for packets that come in; an output rule would answer the sender with EPERM. */
export function filterInput(...rules) {
  const text = `table inet interop { chain input { type filter hook input priority 0;\n${rules.join('\n')}\n}\n}\n`;
  execFileSync('nft', ['-f', '-'], { ...sbin, input: text });
}

/** Rules like those of `filterInput` that end when the answered function is called. */
export function cutInput(...rules) {
  const text = `table inet cut { chain input { type filter hook input priority 1;\n${rules.join('\n')}\n}\n}\n`;
  execFileSync('nft', ['-f', '-'], { ...sbin, input: text });
  return () => run('nft', 'delete', 'table', 'inet', 'cut');
}

/** Gives the host another address beside its own, or takes it away. */
export const addAddress = (address) => run('ip', 'addr', 'add', `${address}/24`, 'dev', 'lab0');
export const dropAddress = (address) => run('ip', 'addr', 'del', `${address}/24`, 'dev', 'lab0');

export const hasNftables = () => spawnSync('nft', ['--version'], { ...sbin, stdio: 'ignore' }).status === 0;

const listenOnce = (server, listen) =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    listen(server, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

export const freeTcpPort = () => listenOnce(net.createServer(), (s, done) => s.listen(0, '127.0.0.1', done));
export const freeUdpPort = () => listenOnce(dgram.createSocket('udp4'), (s, done) => s.bind(0, '127.0.0.1', done));
