// Debian's coturn as a process of its own, with logins made from a static secret.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freeTcpPort } from './network.mjs';
import { until } from './wait.mjs';

/** Where it relays: below the ports that the kernel gives away, so that nothing else comes from there. */
export const RELAY_PORTS = [21_000, 21_999];

const accepts = (port, host) =>
  new Promise((resolve) => {
    const socket = net.connect(port, host, () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });

/** Starts it on `address`; answers its TURN URL. Its log goes to `coturn.log`. */
export async function startCoturn(test, address, secret) {
  const port = await freeTcpPort();
  const log = path.join(test.out, 'coturn.log');
  const args = [
    '-n', '--no-cli', '--no-tls', '--no-dtls', '--allow-loopback-peers', '--verbose', '--realm=interop',
    '--use-auth-secret', `--static-auth-secret=${secret}`,
    `--listening-ip=${address}`, `--relay-ip=${address}`, `--listening-port=${port}`,
    `--min-port=${RELAY_PORTS[0]}`, `--max-port=${RELAY_PORTS[1]}`,
    `--userdb=${path.join(test.out, 'turndb')}`, `--pidfile=${path.join(test.out, 'coturn.pid')}`, '--log-file=stdout',
  ];
  const fd = fs.openSync(log, 'w');
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const child = spawn('turnserver', args, { stdio: ['ignore', fd, fd], env });
  fs.closeSync(fd);
  let ended;
  child.on('error', (e) => { ended = e.message; });
  child.on('exit', (code, signal) => { ended ??= `ended with ${code ?? signal}`; });
  test.closing(child, () => child.kill('SIGKILL'));
  const ready = await until(() => ended || accepts(port, address), 5000, 50);
  if (ended || !ready) throw new Error(`coturn: ${ended ?? 'no answer'}: ${fs.readFileSync(log, 'utf8').slice(-300)}`);
  return `turn:${address}:${port}`;
}
