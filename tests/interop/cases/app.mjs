// The server as the Home Assistant app: its own certificate, and TURN servers of its options.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { RELAY_PORTS, startCoturn } from '../lib/coturn.mjs';
import { filterInput } from '../lib/network.mjs';
import { expectMedia, Page } from '../lib/page.mjs';
import { until } from '../lib/wait.mjs';
import { runPython } from './python.mjs';

/** As `RELAY_PORTS`: no client has one of these by chance. */
const MEDIA_PORTS = [20_000, 20_015];
const NAMES = ['fullchain.pem', 'privkey.pem'];
/** The files are looked at every 2 s, and taken when they are the same at two looks. */
const TAKEN_IN = 12_000;

/** Makes a certificate and its key in `dir`; answers its fingerprint. */
function makeCertificate(dir) {
  fs.mkdirSync(dir, { recursive: true });
  const [certificate, key] = NAMES.map((name) => path.join(dir, name));
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=parlor';
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  execFileSync('openssl', [...words.split(' '), '-addext', names, '-keyout', key, '-out', certificate], { stdio: 'pipe' });
  return execFileSync('openssl', ['x509', '-in', certificate, '-noout', '-fingerprint', '-sha256']).toString().trim().split('=')[1];
}

/** The fingerprint of the certificate that a new connection is shown. */
function shown(port) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

/** A call over wss; the certificate is replaced half-way, then wholly. The call does not notice. */
async function certificateReplaced(test) {
  const ssl = path.join(test.out, 'ssl');
  const fresh = path.join(test.out, 'fresh');
  const [old, renewed] = [makeCertificate(ssl), makeCertificate(fresh)];
  const server = await test.startServer({ app: { use_ssl: true, domain: 'localhost' } });
  const presented = () => shown(server.ports.http);
  const log = () => fs.readFileSync(server.log, 'utf8');
  test.check(await presented() === old, 'it does not show the certificate that it was given');
  const plain = await fetch(server.http.replace('https', 'http')).then((r) => r.status, (e) => e.message);
  test.check(plain === 400, `plain HTTP is answered ${plain}, not 400`);

  const browser = await test.chromium('--ignore-certificate-errors');
  const alice = await Page.join(test, browser, 'alice');
  const bob = await Page.join(test, browser, 'bob');
  await expectMedia(test, bob, 'alice', { seconds: 1 });
  await bob.call('startGaps', 'alice');

  const read = (name) => fs.readFileSync(path.join(fresh, name));
  // Half-way: written over in place, and the key is still the old one.
  fs.writeFileSync(path.join(ssl, NAMES[0]), read(NAMES[0]).subarray(0, 300));
  const warned = await until(() => log().includes('the certificate from before stays in use'), TAKEN_IN, 100);
  test.check(warned, 'a certificate that is half there is not told of');
  test.check(await presented() === old, 'with half a certificate in its place the old one is not shown');
  for (const name of NAMES) fs.renameSync(path.join(fresh, name), path.join(ssl, name));
  const since = Date.now();
  const taken = await until(async () => await presented() === renewed, TAKEN_IN, 100);
  test.check(taken, 'the new certificate is not shown');
  test.figure('taken after ms', Date.now() - since);
  await Page.join(test, browser, 'carol', { publish: false });

  const { frames, longest } = await bob.call('stopGaps');
  test.figure('frames', frames);
  test.figure('longest pause in ms', longest);
  test.check(frames > 50 && longest <= 500, `of ${frames} frames two were ${longest} ms apart`);
  for (const page of [alice, bob]) {
    const drops = (await page.events()).filter(([, name]) => /Reconnecting|Disconnected|Failed/.test(name));
    test.check(!drops.length, `${page.identity}'s events: ${JSON.stringify(drops)}`);
  }
  const [warnings, errors] = ['stays in use', 'ERROR'].map((word) => log().split(word).length - 1);
  test.check(warnings === 1 && errors === 0, `${warnings} warnings and ${errors} errors: ${server.tail(20)}`);
}

/**
 * Starts coturn, and the server with the same secret in its options. Whatever reaches the media ports past coturn is
 * dropped, and so is what comes from there.
 */
async function behindCoturn(test) {
  test.needNamespace();
  const secret = 'a secret that coturn and the app share';
  const url = await startCoturn(test, '10.99.0.1', secret);
  const [rtc_udp_port_min, rtc_udp_port_max] = MEDIA_PORTS;
  const turn = { turn_enabled: true, turn_servers: [url], turn_static_auth_secret: secret };
  const app = { domain: 'localhost', log_level: 'debug', rtc_udp_port_min, rtc_udp_port_max, ...turn };
  const { ports } = await test.startServer({ app });
  const [media, relay] = [MEDIA_PORTS, RELAY_PORTS].map((range) => range.join('-'));
  filterInput(
    `udp dport ${media} udp sport != ${relay} drop`,
    `udp sport ${media} udp dport != ${relay} drop`,
    `tcp dport ${ports.tcp} drop`,
  );
}

/** Alice with one peer connection, Bob with two, both by relay only. */
async function chromiumRelayed(test) {
  await behindCoturn(test);
  const browser = await test.chromium();
  const rtcConfig = { iceTransportPolicy: 'relay' };
  const alice = await Page.join(test, browser, 'alice', { singlePeerConnection: true, rtcConfig });
  const bob = await Page.join(test, browser, 'bob', { singlePeerConnection: false, rtcConfig });
  await expectMedia(test, bob, 'alice', { seconds: 2 });
  await expectMedia(test, alice, 'bob', { seconds: 1 });
  for (const page of [alice, bob]) {
    const paths = await page.call('paths');
    test.check(paths.length && paths.every((p) => p.local === 'relay'), `${page.identity} is on ${JSON.stringify(paths)}`);
  }
  await alice.leave();
  await bob.leave();
}

async function pythonRelayed(test) {
  await behindCoturn(test);
  await runPython(test, 'load', ['--relay', '--warmup', '2', '-n', '4']);
}

export const appCases = [
  { name: 'tls-reload', about: 'the certificate is replaced under a call', timeout: 60, server: false, run: certificateReplaced },
  { name: 'coturn-chromium', about: "Chromium by coturn only, with the server's logins", timeout: 60, server: false, run: chromiumRelayed },
  { name: 'coturn-python', about: "the Python SDK by coturn only, with the server's logins", timeout: 60, server: false, run: pythonRelayed },
];
