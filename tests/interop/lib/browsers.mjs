// Debian's Chromium and Firefox ESR with fake cameras, and the pages they open.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { inRoot } from './paths.mjs';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const FOLDERS = {
  '/lk/': inRoot('node_modules/livekit-client/dist'),
  '/old/': inRoot('old-client/node_modules/livekit-client/dist'),
  '/out/': inRoot('out'),
  '/': inRoot('www'),
};

/** Serves www/ at /, the newest livekit-client at /lk/, the old one at /old/, what cases build at /out/. */
export async function servePages() {
  const server = http.createServer((query, reply) => {
    const { pathname } = new URL(query.url, 'http://localhost');
    const prefix = Object.keys(FOLDERS).find((p) => pathname.startsWith(p));
    const file = path.join(FOLDERS[prefix], pathname.slice(prefix.length) || 'index.html');
    fs.readFile(file, (error, body) => {
      reply.writeHead(error ? 404 : 200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream', 'cache-control': 'no-store' });
      reply.end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => { server.close(); server.closeAllConnections(); };
  return { base: `http://127.0.0.1:${server.address().port}`, close };
}

const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--headless=new',
  '--use-fake-device-for-media-stream=fps=30', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required', '--allow-loopback-in-peer-connection',
  '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
];

const FIREFOX_PREFS = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.peerconnection.ice.loopback': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.gmp-manager.updateEnabled': false,
  'app.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};

const freshProfile = (name) => fs.mkdtempSync(path.join(os.tmpdir(), `interop-${name}-`));
const discard = (dir) => fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 });

/** Answers {newPage, close}; camera and microphone are granted, so real addresses are gathered. */
export async function startChromium(flags = []) {
  const profile = freshProfile('chromium');
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [...CHROMIUM_FLAGS, ...flags],
    permissions: ['camera', 'microphone'],
  });
  return { newPage: () => context.newPage(), close: async () => { await context.close(); discard(profile); } };
}

/** One tab only: a hidden tab's video is stopped by adaptive stream. */
export async function startFirefox() {
  const profile = freshProfile('firefox');
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    userDataDir: profile,
    extraPrefsFirefox: FIREFOX_PREFS,
  });
  return { newPage: () => browser.newPage(), close: async () => { await browser.close(); discard(profile); } };
}
