// The signalling of unmodified clients, recorded and held against recordings of livekit-server
// 1.13.5 with the same clients. Nothing that both reference recordings show may be missing, except
// what is listed here with its reason.
import path from 'node:path';
import { inRoot } from '../lib/paths.mjs';
import { Page } from '../lib/page.mjs';
import { codecs, life } from '../lib/story.mjs';
import { admin, reconnects, refusals } from '../lib/story-server.mjs';
import { compareFiles } from '../lib/trace-diff.mjs';
import { sleep } from '../lib/wait.mjs';
import { runNode } from './node.mjs';
import { runPython } from './python.mjs';

/** [lines of the comparison, why they may stand]; add none without a reason that a reader accepts. */
const ALLOWED = [];

/** Loud is only the first second of a browser's fake microphone, and only if it is quick. */
const BY_CHANCE = ['speakersChanged'];
const twirp = (call, status) => `http POST /twirp/livekit.${call} ${status}`;
/** What we do otherwise on purpose (docs/deviations.md). */
const ON_PURPOSE = {
  // A full room is 403, and so is its /validate.
  admin: [
    'refused 500',
    'refused 403',
    'http GET /rtc/v1/validate 200',
    'http GET /rtc/v1/validate 403',
    // Done here, so that alice would go to another room in the middle of the story.
    twirp('RoomService/ForwardParticipant', 500),
    twirp('RoomService/MoveParticipant', 500),
  ],
  // Unimplemented is 501, with what is missing.
  refusals: ['Egress/ListEgress', 'Ingress/ListIngress'].flatMap((call) => [twirp(call, 500), twirp(call, 501)]),
};

/** Quality is told every 5 s: a story that is shorter than a beat may or may not meet one. */
const LONGER_THAN_A_BEAT = 6500;

/** Two pages with four seconds for each element size. */
async function pages(test, { firefox = false, phases = true, client, ...options } = {}) {
  const browser = await test.chromium();
  const join = (who, where) => Page.join(test, where, who, { room: 'browser', url: test.recording.url, client, ...options });
  const alice = await join('alice', browser);
  const bob = await join('bob', firefox ? await test.firefox() : browser);
  await sleep(phases ? 4000 : LONGER_THAN_A_BEAT);
  for (const css of phases ? ['width:160px;height:90px;display:block', 'display:none'] : []) {
    for (const page of [alice, bob]) await page.call('styleVideos', css);
    await sleep(4000);
  }
  await alice.leave();
  await bob.leave();
  await sleep(300);
}

const python = (...args) => (test) => runPython(test, 'load', ['-p', '1', '-s', '1', '-n', '7', '--data-hz', '2', ...args]);

const STORIES = {
  'browser-v1': (test) => pages(test),
  'browser-v0': (test) => pages(test, { singlePeerConnection: false }),
  firefox: (test) => pages(test, { firefox: true, phases: false }),
  'livekit-client-1.13.2': (test) => pages(test, { phases: false, client: 'old' }),
  'python-v1': python('--simulcast'),
  'python-v0': python('--single-pc', 'off'),
  node: (test) => runNode(test, 'node-pair', [test.recording.url, 'node', '4']),
  life,
  codecs,
  admin,
  reconnects,
  refusals,
};

async function record(test, name, story) {
  const mine = path.join(test.out, `${name}.jsonl`);
  test.recording = await test.recorder(mine);
  await story(test);
  await test.recording.close();
  const { missing, extra, counts } = compareFiles(inRoot('reference', `${name}.jsonl.gz`), mine, [
    ...BY_CHANCE,
    ...(ON_PURPOSE[name] ?? []),
  ]);
  for (const line of [...missing, ...extra, ...counts]) test.log(line);
  const faults = missing.filter((line) => !ALLOWED.some(([pattern]) => pattern.test(line)));
  for (const line of faults) test.check(false, line);
  test.figure('missing but allowed', missing.length - faults.length);
  test.figure('only here', extra.length);
}

export const wireCases = Object.entries(STORIES).map(([name, story]) => ({
  name: `wire-${name}`,
  about: `the signalling of ${name} as recorded`,
  timeout: 150,
  run: (test) => record(test, name, story),
}));
