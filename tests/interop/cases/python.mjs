// LiveKit's Python SDK, which is the Rust core that most native clients share; and aiortc, which shares nothing with it.
import { inRoot, python } from '../lib/paths.mjs';
import { LOSSY_SERVER } from '../lib/test.mjs';

const singlePc = (on) => ['--single-pc', on ? 'on' : 'off'];

/** Runs a client of clients/ and takes over what it found. */
export async function runPython(test, program, args, limit) {
  const url = ['--url', test.recording?.url ?? test.server.url];
  const { code, json, said } = await test.client(program, python(), [inRoot('clients', `${program}.py`), ...url, ...args], limit);
  for (const problem of json?.problems ?? [`${program}.py ended with ${code}: ${said}`]) test.check(false, problem);
  const { problems, ...figures } = json ?? {};
  test.figure(program, figures);
}

const load = (...args) => (single) => (test) => runPython(test, 'load', [...args, ...singlePc(single)]);
const move = (...args) => (single) => (test) => runPython(test, 'move', [...args, ...singlePc(single)]);
const messages = (...args) => (single) => (test) => runPython(test, 'messages', [...args, ...singlePc(single)]);

async function messagesUnderLoss(test, single) {
  await test.badLine({ loss: 0.05 });
  // A lossy message crosses two hops of 5 % each: 90 % come, and of a thousand 85 % nearly always.
  // libwebrtc repeats a lost packet of SCTP's handshake after 1, 3 and 7 s.
  await messages('--min-lossy', '0.85', '--opening', '8')(single)(test);
}

/** A file for somebody who gets it more slowly than it is sent. */
async function fileToThinLine(test, args) {
  await test.badLine({ delay: 10, thin: 16e6 });
  await runPython(test, 'file', args);
}

/** A case for one peer connection and one for two. */
const both = (name, about, run, more = {}) => [true, false].map((single) => ({
  name: `${name}-${single ? 'v1' : 'v0'}`,
  about: `${about}, ${single ? 'one peer connection' : 'two peer connections'}`,
  timeout: 90,
  over: ['tcp'],
  run: run(single),
  ...more,
}));

export const pythonCases = [
  ...both('python-vp8', '2 publishers × 3 subscribers, 640x360', load('-p', '2', '-s', '3', '--data-hz', '5'), { over: ['tcp', 'no-udp'] }),
  ...['h264', 'vp9', 'av1'].flatMap((codec) =>
    both(`python-${codec}`, `${codec}, 320x180`, load('--size', '320x180', '--codec', codec, '-n', '5'))),
  ...both('python-move', 'moved to another room and back', move()),
  ...both('python-messages', 'reliable and lossy messages', messages('-n', '200', '--limit', '10')),
  {
    name: 'python-agent',
    about: 'agents of a livekit-agents worker join rooms: by themselves, by token, by dispatch, and in a killed one\'s place',
    timeout: 180,
    run: (test) => runPython(test, 'agent', []),
  },
  {
    name: 'aiortc',
    about: "two participants whose ICE, DTLS, SCTP and SDP are aiortc's and OpenSSL's",
    timeout: 60,
    run: (test) => runPython(test, 'aiortc-pair', []),
  },
  {
    name: 'aiortc-device',
    about: 'the same with RSA certificates and the oldest protocol, as small devices have them',
    timeout: 60,
    run: (test) => runPython(test, 'aiortc-pair', ['--certificate', 'rsa', '--protocol', '1']),
  },
  ...both('python-messages-loss', '1,000 reliable messages at 5 % loss', (single) => (test) => messagesUnderLoss(test, single), { server: LOSSY_SERVER, over: [] }),
  {
    name: 'python-file',
    about: 'a file of 20 MB to somebody whose line is thin, while others talk',
    timeout: 120,
    server: LOSSY_SERVER,
    run: (test) => fileToThinLine(test, ['--single-pc', 'on']),
  },
  {
    name: 'python-file-v0',
    about: 'the same to the only other one there, two peer connections',
    timeout: 120,
    server: LOSSY_SERVER,
    run: (test) => fileToThinLine(test, ['--single-pc', 'off', '--to-all']),
  },
];
