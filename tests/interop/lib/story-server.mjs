// Scripted stories of what the server does: the API of a backend, refusals, and every way to lose a
// connection that livekit-client can simulate. As the reference server was recorded with them.
import { AgentDispatchClient, RoomServiceClient } from 'livekit-server-sdk';
import { join, step } from './story.mjs';
import { KEY, SECRET, token } from './token.mjs';
import { sleep } from './wait.mjs';

/** The address of the recorder, or of the server, for HTTP. */
const httpOf = (test) => test.recording?.url.replace(/^ws/, 'http') ?? test.server.http;

const text = (s) => new TextEncoder().encode(s);

/**
 * A backend calls everything while two people talk, a third is removed and a fourth finds the room
 * full. ForwardParticipant and MoveParticipant are left out: the reference has neither.
 */
export async function admin(test) {
  const browser = await test.chromium();
  const name = 'admin';
  const api = new RoomServiceClient(httpOf(test), KEY, SECRET);
  const agents = new AgentDispatchClient(httpOf(test), KEY, SECRET);
  const call = async (label, action) => {
    const answer = await action().catch((e) => `${e.status} ${e.code} ${e.message}`);
    test.log(`${label}: ${JSON.stringify(answer, (_, v) => (typeof v === 'bigint' ? String(v) : v))?.slice(0, 400)}`);
    await sleep(500);
  };
  const settings = { emptyTimeout: 60, departureTimeout: 5, maxParticipants: 3, minPlayoutDelay: 50, maxPlayoutDelay: 200 };
  await call('create', () => api.createRoom({ name, metadata: 'm0', syncStreams: true, tags: { a: 'b' }, ...settings }));
  await call('create again', () => api.createRoom({ name, metadata: 'm1' }));
  await call('create without name', () => api.createRoom({ name: '' }));
  await call('list', () => api.listRooms());
  await call('list two names', () => api.listRooms(['nope', name]));

  const enter = (identity, how) => join(test, browser, identity, name, how);
  const alice = await enter('alice');
  const bob = await enter('bob', { claims: { attributes: { k: 'v' } } });
  await sleep(1500);
  await call('participants', () => api.listParticipants(name));
  await call('get', () => api.getParticipant(name, 'alice'));
  await call('get nobody', () => api.getParticipant(name, 'zoe'));
  await call('participants of nowhere', () => api.listParticipants('nowhere'));

  const { tracks } = await api.getParticipant(name, 'alice');
  const [video, audio] = [1, 0].map((type) => tracks.find((t) => t.type === type).sid);
  await call('mute', () => api.mutePublishedTrack(name, 'alice', video, true));
  await call('mute again', () => api.mutePublishedTrack(name, 'alice', video, true));
  await call('unmute', () => api.mutePublishedTrack(name, 'alice', video, false));
  await call('mute nothing', () => api.mutePublishedTrack(name, 'alice', 'TR_nope', true));

  const may = (permission) => ({ permission: { canPublish: true, canSubscribe: true, canPublishData: true, ...permission } });
  await call('update', () => api.updateParticipant(name, 'alice', { metadata: 'pm', name: 'Al', attributes: { z: '1' } }));
  await call('no publishing', () => api.updateParticipant(name, 'alice', may({ canPublish: false })));
  await sleep(1000);
  await call('publishing', () => api.updateParticipant(name, 'alice', may()));
  await call('no subscribing', () => api.updateParticipant(name, 'bob', may({ canSubscribe: false })));
  await sleep(1000);
  await call('subscribing', () => api.updateParticipant(name, 'bob', may()));
  await call('unsubscribe', () => api.updateSubscriptions(name, 'bob', [audio], false));
  await call('update nobody', () => api.updateParticipant(name, 'zoe', { metadata: 'x' }));
  await call('room metadata', () => api.updateRoomMetadata(name, 'm2'));
  await call('room metadata of nowhere', () => api.updateRoomMetadata('nowhere', 'x'));
  await call('data', () => api.sendData(name, text('srv'), 0, { topic: 'x', destinationIdentities: ['bob'] }));
  await call('dispatch', () => agents.createDispatch(name, 'helper', { metadata: 'x' }));
  await call('dispatches', () => agents.listDispatch(name));

  await enter('carol');
  const full = await enter('dave').catch((e) => e.message);
  test.check(/could not join/.test(full), `the fourth of three: ${full}`);
  await sleep(1000);
  await call('remove', () => api.removeParticipant(name, 'carol'));
  await sleep(1000);
  await call('remove nobody', () => api.removeParticipant(name, 'zoe'));
  const stranger = new RoomServiceClient(httpOf(test), KEY, 'x'.repeat(36));
  await call('a wrong secret', () => stranger.listRooms());
  await call('delete', () => api.deleteRoom(name));
  await sleep(1000);
  for (const page of [alice, bob]) {
    const events = await page.events();
    test.check(events.some(([, event]) => event === 'Disconnected'), `${page.identity} is still in a deleted room`);
  }
  await call('delete nowhere', () => api.deleteRoom('nowhere'));
  await sleep(2000);
}

/** [what is simulated, its argument], each followed by five seconds to recover. */
const SCENARIOS = [
  ['signal-reconnect'],
  ['resume-reconnect'],
  ['speaker'],
  ['full-reconnect'],
  ['migration'],
  ['leave-full-reconnect'],
  ['disconnect-signal-on-resume'],
  ['disconnect-signal-on-resume-no-messages'],
  ['subscriber-bandwidth', 500_000],
  ['force-tcp'],
  ['force-tls'],
  ['server-leave'],
];

/** One of two people goes through all of `simulateScenario`. */
export async function reconnects(test) {
  const browser = await test.chromium();
  const alice = await join(test, browser, 'alice', 'reconnects');
  const bob = await join(test, browser, 'bob', 'reconnects');
  await sleep(2000);
  for (const [scenario, argument] of SCENARIOS) {
    await step(test, alice, scenario, `void room.simulateScenario('${scenario}', ${argument}).catch(() => {})`);
    await sleep(5000);
  }
  const state = await step(test, alice, 'state', 'room.state');
  test.check(state === 'disconnected', `after all that alice is ${state}`);
  await bob.leave();
  await sleep(700);
}

const PATHS = [
  '/',
  '/rtc',
  '/rtc/validate',
  '/rtc/v1/validate',
  '/nope',
  '/twirp/livekit.RoomService/Nope',
  '/twirp/livekit.Egress/ListEgress',
  '/twirp/livekit.Ingress/ListIngress',
  '/twirp/livekit.SIP/ListSIPTrunk',
];

/** People with few rights, people with none, and every method on every route. */
export async function refusals(test) {
  const browser = await test.chromium();
  const name = 'refusals';
  const enter = (identity, grant, how) => join(test, browser, identity, name, { grant, ...how });
  const publish = 'room.localParticipant.enableCameraAndMicrophone().catch((e) => e.message)';
  const alice = await enter('alice');
  await enter('hidden', { hidden: true, canPublish: false }, { publish: false });
  const watcher = await enter('watcher', { canPublish: false, canPublishData: false }, { publish: false });
  await enter('deaf', { canSubscribe: false });
  const audioOnly = await enter('audio-only', { canPublishSources: [2] }, { publish: false });
  await step(test, audioOnly, 'publishes what it may', publish);
  await step(test, watcher, 'data without the right to it', 'room.localParticipant.publishData(new Uint8Array([1]))');
  await step(test, watcher, 'metadata', "room.localParticipant.setMetadata('x')");
  await enter('alice');
  await sleep(1500);
  const gone = (await alice.events()).some(([, event]) => event === 'Disconnected');
  test.check(gone, 'the first alice did not hear that she was replaced');

  const strangers = [
    ['expired', {}, { claims: { ttl: -120 } }],
    ['wrong secret', {}, { claims: { secret: 'y'.repeat(36) } }],
    ['unknown key', {}, { claims: { key: 'nokey' } }],
    ['no roomJoin', { roomJoin: false }],
    ['no room', { room: undefined }],
    ['empty room', { room: '' }],
    ['garbage', {}, { access: 'a.b.c' }],
    ['a long name', {}, {}, 'i'.repeat(300)],
    ['a long room', { room: 'r'.repeat(300) }],
  ];
  for (const [what, grant, how, identity = 'x'] of strangers) {
    const refused = await enter(identity, grant, how).catch((e) => e.message);
    test.log(`${what}: ${refused.slice?.(0, 200)}`);
    test.check(/could not join/.test(refused), `${what} was let in`);
  }
  const grant = { roomAdmin: true, roomList: true, roomCreate: true, ingressAdmin: true, roomRecord: true };
  const access = await token('adm', name, grant);
  const json = { 'content-type': 'application/json', authorization: `Bearer ${access}` };
  for (const path of PATHS) {
    for (const method of ['GET', 'POST', 'OPTIONS', 'HEAD']) {
      const headers = { origin: 'http://example.org', ...(method === 'POST' ? json : {}) };
      const body = method === 'POST' ? '{}' : undefined;
      const answer = await fetch(httpOf(test) + path, { method, headers, body });
      test.log(`${method} ${path} ${answer.status} ${(await answer.text()).slice(0, 200)}`);
    }
  }
  // Nobody says goodbye.
  await browser.close();
  await sleep(500);
}
