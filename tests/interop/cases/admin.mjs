// What a backend does with LiveKit's server SDKs while people are in the room, and what it is posted.
import { DataPacket_Kind, RoomServiceClient, TrackType } from 'livekit-server-sdk';
import { Page } from '../lib/page.mjs';
import { RustAdmin, RustError } from '../lib/rust-admin.mjs';
import { KEY, SECRET, token } from '../lib/token.mjs';
import { sleep, until } from '../lib/wait.mjs';
import { Hooks } from '../lib/webhooks.mjs';
import { runNode } from './node.mjs';
import { runPython } from './python.mjs';

/** A secret that the server does not have. */
const STRANGE = 'x'.repeat(36);

/** Holds the fields of `wanted` against those of `got`. */
function compare(test, what, got, wanted) {
  for (const [field, want] of Object.entries(wanted)) {
    const plain = (x) => JSON.stringify(x, (_, v) => (typeof v === 'bigint' ? Number(v) : v));
    test.check(plain(got?.[field]) === plain(want), `${what}: ${field} is ${plain(got?.[field])}, not ${plain(want)}`);
  }
}

/** `call` fails with this HTTP status and Twirp code; an SDK that hides the status is held to the code. */
async function refused(test, what, call, status, code) {
  try {
    await call();
    test.check(false, `${what} was not refused`);
  } catch (e) {
    const said = e instanceof RustError ? e.code || e.undecodable : e.status === status;
    test.check(said && e.code === code, `${what}: ${e.status} ${e.code} (${e.message}), not ${status} ${code}`);
  }
}

async function rooms(test, api, stranger) {
  const settings = { name: 'room', emptyTimeout: 60, departureTimeout: 5, maxParticipants: 3, metadata: 'm0' };
  const made = await api.createRoom(settings);
  compare(test, 'CreateRoom', made, { ...settings, numParticipants: 0, numPublishers: 0, activeRecording: false });
  test.check(/^RM_\w{12}$/.test(made.sid), `CreateRoom: sid ${made.sid}`);
  test.check(Math.abs(Number(made.creationTimeMs) - Date.now()) < 10_000, `CreateRoom: made at ${made.creationTimeMs}`);
  const again = await api.createRoom({ name: 'room', metadata: 'm1' });
  compare(test, 'CreateRoom again', again, { sid: made.sid, metadata: 'm0', maxParticipants: 3 });
  await api.createRoom({ name: 'other' });
  const names = async (wanted) => (await api.listRooms(wanted)).map((r) => r.name).sort().join();
  test.check(await names() === 'other,room', `ListRooms: ${await names()}`);
  test.check(await names(['nope', 'room']) === 'room', `ListRooms of two names: ${await names(['nope', 'room'])}`);
  await api.deleteRoom('other');
  test.check(await names() === 'room', `ListRooms after DeleteRoom: ${await names()}`);
  await refused(test, 'DeleteRoom of nothing', () => api.deleteRoom('other'), 404, 'not_found');
  compare(test, 'UpdateRoomMetadata', await api.updateRoomMetadata('room', 'm2'), { metadata: 'm2', sid: made.sid });
  await refused(test, 'UpdateRoomMetadata of nothing', () => api.updateRoomMetadata('other', ''), 404, 'not_found');
  await refused(test, 'a wrong secret', () => stranger.listRooms(), 401, undefined);
}

async function people(test, api, alice, bob) {
  test.check(await until(async () => (await bob.track('alice', 'video'))?.frames > 0, 15_000), 'bob sees nothing of alice');
  const list = await api.listParticipants('room');
  test.check(list.map((p) => p.identity).sort().join() === 'alice,bob', `ListParticipants: ${list.map((p) => p.identity)}`);
  const [room] = await api.listRooms(['room']);
  compare(test, 'ListRooms with people', room, { numParticipants: 2, numPublishers: 1 });
  const info = await api.getParticipant('room', 'alice');
  compare(test, 'GetParticipant', info, { identity: 'alice', name: 'alice', state: 2, isPublisher: true, metadata: '' });
  const video = info.tracks.find((t) => t.type === TrackType.VIDEO);
  const audio = info.tracks.find((t) => t.type === TrackType.AUDIO);
  compare(test, 'the video', video, { mimeType: 'video/VP8', muted: false, simulcast: true, width: 1280, height: 720 });
  compare(test, 'the audio', audio, { muted: false, stream: 'camera' });
  await refused(test, 'GetParticipant of nobody', () => api.getParticipant('room', 'zoe'), 404, 'not_found');

  compare(test, 'MutePublishedTrack', await api.mutePublishedTrack('room', 'alice', video.sid, true), { sid: video.sid, muted: true });
  const still = async () => !(await alice.call('local')).find((t) => t.kind === 'video' && !t.muted);
  test.check(await until(still, 5000), 'alice was not muted');
  await refused(test, 'unmuting', () => api.mutePublishedTrack('room', 'alice', video.sid, false), 412, 'failed_precondition');

  const changed = await api.updateParticipant('room', 'alice', { metadata: 'pm', name: 'Al', attributes: { z: '1' } });
  compare(test, 'UpdateParticipant', changed, { metadata: 'pm', name: 'Al', attributes: { z: '1' } });
  const seen = async () => (await bob.call('others')).find((p) => p.identity === 'alice');
  await until(async () => (await seen())?.name === 'Al', 5000);
  compare(test, 'alice as bob sees her', await seen(), { name: 'Al', metadata: 'pm', attributes: { z: '1' } });

  await api.updateSubscriptions('room', 'bob', [audio.sid], false);
  test.check(await until(async () => !(await bob.track('alice', 'audio')), 5000), 'bob still has the sound');
  await api.updateSubscriptions('room', 'bob', [audio.sid], true);
  test.check(await until(() => bob.track('alice', 'audio'), 5000), 'bob did not get the sound back');

  const text = (bytes) => new TextEncoder().encode(bytes);
  await api.sendData('room', text('to bob'), DataPacket_Kind.RELIABLE, { topic: 'x', destinationIdentities: ['bob'] });
  await api.sendData('room', text('to all'), DataPacket_Kind.RELIABLE, { topic: 'y' });
  await until(async () => (await bob.call('data')).length >= 2, 5000);
  test.check(JSON.stringify(await bob.call('data')) === '[["x","to bob"],["y","to all"]]', `bob got ${JSON.stringify(await bob.call('data'))}`);
  test.check(JSON.stringify(await alice.call('data')) === '[["y","to all"]]', `alice got ${JSON.stringify(await alice.call('data'))}`);

  const may = { canPublish: true, canSubscribe: true, canPublishData: true };
  const silenced = await api.updateParticipant('room', 'alice', { permission: { ...may, canPublish: false } });
  compare(test, 'a permission taken', silenced.permission, { canPublish: false, canSubscribe: true, canPublishData: true });
  test.check(await until(async () => !(await bob.call('received')).length, 5000), 'alice may not publish and still does');
  await api.updateParticipant('room', 'alice', { permission: may });
}

/** Bob is forwarded, then moved there and back; a token is made void. `ticks` in a second of the SDK's clock. */
async function journeys(test, api, bob, ticks) {
  await api.forwardParticipant('room', 'bob', 'other');
  for (const room of ['room', 'other']) {
    compare(test, 'who was forwarded', await api.getParticipant(room, 'bob'), { identity: 'bob', state: 2 });
  }
  await refused(test, 'UpdateParticipant of a guest', () => api.updateParticipant('other', 'bob', { name: 'B' }), 412, 'failed_precondition');
  await refused(test, 'forwarding to where it is', () => api.forwardParticipant('room', 'bob', 'room'), 400, 'invalid_argument');
  await api.removeParticipant('other', 'bob');
  await refused(test, 'GetParticipant of a guest that was removed', () => api.getParticipant('other', 'bob'), 404, 'not_found');
  await refused(test, 'ForwardParticipant of nobody', () => api.forwardParticipant('room', 'zoe', 'other'), 404, 'not_found');
  for (const [from, to, others] of [['room', 'other', ''], ['other', 'room', 'alice']]) {
    await api.moveParticipant(from, 'bob', to);
    await refused(test, 'GetParticipant of who was moved', () => api.getParticipant(from, 'bob'), 404, 'not_found');
    compare(test, 'who was moved', await api.getParticipant(to, 'bob'), { identity: 'bob', state: 2 });
    const seen = async () => [await bob.tab.evaluate(() => window.room.name), ...(await bob.call('others')).map((p) => p.identity)].join();
    const wanted = [to, others].filter(Boolean).join();
    await until(async () => await seen() === wanted, 5000);
    test.check(await seen() === wanted, `bob sees ${await seen()}, not ${wanted}`);
  }
  await refused(test, 'MoveParticipant of nobody', () => api.moveParticipant('room', 'zoe', 'other'), 404, 'not_found');
  await api.deleteRoom('other');

  const pass = await token('zoe', 'room');
  const entry = async () => (await fetch(`${test.server.http}/rtc/validate?access_token=${pass}`)).status;
  test.check(await entry() === 200, `zoe's token is answered with ${await entry()}`);
  const revoke = (seconds) => api.removeParticipant('room', 'zoe', { revokeTokenTs: (Math.floor(Date.now() / 1000) + seconds) * ticks });
  await refused(test, 'revoking old tokens of nobody', () => revoke(-3600), 404, 'not_found');
  test.check(await entry() === 200, `zoe's later token is answered with ${await entry()}`);
  await refused(test, 'revoking tokens of nobody', () => revoke(60), 404, 'not_found');
  test.check(await entry() === 401, `zoe's revoked token is answered with ${await entry()}`);
}

async function farewells(test, api, alice, bob) {
  await api.removeParticipant('room', 'bob');
  const told = (page, reason) => until(async () => (await page.events()).some(([, name, text]) => name === 'Disconnected' && text === reason), 5000);
  test.check(await told(bob, '4'), `bob was removed: ${JSON.stringify(await bob.events())}`);
  await refused(test, 'RemoveParticipant of nobody', () => api.removeParticipant('room', 'bob'), 404, 'not_found');
  await api.deleteRoom('room');
  test.check(await told(alice, '5'), `alice's room was deleted: ${JSON.stringify(await alice.events())}`);
  const left = await until(async () => (await api.listRooms()).length === 0, 5000);
  test.check(left, 'the room is still listed');
}

async function node(test) {
  const api = new RoomServiceClient(test.server.http, KEY, SECRET);
  await rooms(test, api, new RoomServiceClient(test.server.http, KEY, STRANGE));
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice');
  const bob = await Page.join(test, browser, 'bob', { publish: false });
  await people(test, api, alice, bob);
  await journeys(test, api, bob, 1);
  await farewells(test, api, alice, bob);
  await toldOfAlice(test);
}

/** What the receiver was posted of it all. */
async function toldOfAlice(test) {
  const { hooks } = test;
  await hooks.waitFor((e) => e.event === 'room_finished' && e.room?.name === 'room');
  const told = hooks.of('alice').join();
  test.check(
    /^participant_joined,track_published,track_published,track_unpublished,track_unpublished,participant_left$/.test(told),
    `webhooks about alice: ${told}`,
  );
  const ends = hooks.events.filter((e) => !e.participant && e.room?.name === 'room').map((e) => e.event).join();
  test.check(ends === 'room_started,room_finished', `webhooks about the room: ${ends}`);
  test.figure('webhooks', hooks.events.length);
}

/** The calls of the crate that the other SDKs' cases have no part in. */
async function dispatches(test, api) {
  const made = await api.createDispatch('room', 'helper', 'm');
  compare(test, 'CreateDispatch', made, { agentName: 'helper', room: 'room', metadata: 'm' });
  test.check(/^AD_\w{12}$/.test(made.id), `CreateDispatch: id ${made.id}`);
  // Every room has one of its own, for workers without a name.
  const ids = async () => (await api.listDispatch('room')).filter((d) => d.agentName).map((d) => d.id).join();
  test.check(await ids() === made.id, `ListDispatch: ${await ids()}`);
  compare(test, 'one dispatch', await api.getDispatch(made.id, 'room'), { id: made.id, agentName: 'helper' });
  compare(test, 'DeleteDispatch', await api.deleteDispatch(made.id, 'room'), { id: made.id });
  test.check(await ids() === '', `ListDispatch after DeleteDispatch: ${await ids()}`);
  await refused(test, 'ListEgress', () => api.listEgress('room'), 501, 'unimplemented');
}

/** The crate reads in every webhook what the Node SDK reads, and refuses what is not ours. */
async function received(test, api, stranger) {
  const { events, posts } = test.hooks;
  for (const [n, post] of posts.entries()) {
    const event = await api.receive(post).catch((e) => test.check(false, `webhook ${events[n].event}: ${e.message}`));
    if (event) compare(test, `webhook ${n}`, { event: event.toJson() }, { event: JSON.parse(events[n].toJsonString()) });
  }
  const refusal = (receiver, post) => receiver.receive(post).then(() => 'nothing', (e) => e.message);
  const forged = await refusal(api, { ...posts[0], body: posts[0].body.replace('room', 'roof') });
  test.check(forged === 'invalid signature', `a webhook that was changed: ${forged}`);
  const foreign = await refusal(stranger, posts[0]);
  test.check(/failed to verify the authorization/.test(foreign), `a webhook of another secret: ${foreign}`);
  test.figure('webhooks verified', posts.length);
}

async function rust(test) {
  const api = RustAdmin.start(test);
  const stranger = RustAdmin.start(test, STRANGE);
  await rooms(test, api, stranger);
  compare(test, 'CreateRoom with a delay', await api.createRoom({ name: 'late', playoutDelay: [100, 200], maxParticipants: 2 }), { name: 'late', maxParticipants: 2 });
  await api.deleteRoom('late');
  const browser = await test.chromium();
  const alice = await Page.join(test, browser, 'alice', { access: await api.token('alice', 'room') });
  const bob = await Page.join(test, browser, 'bob', { publish: false, access: await api.token('bob', 'room', false) });
  compare(test, "bob's permission", (await api.getParticipant('room', 'bob')).permission, { canPublish: false, canSubscribe: true, canPublishData: true });
  await people(test, api, alice, bob);
  await journeys(test, api, bob, 1000);
  await dispatches(test, api);
  await farewells(test, api, alice, bob);
  await toldOfAlice(test);
  await received(test, api, stranger);
}

/** 200 people come and go one after the other; half-way the receiver is gone for three seconds. */
async function webhooks(test) {
  const { hooks } = test;
  const joins = runNode(test, 'node-joins', [test.server.url, '200', '5000', 'v1', '--publish'], 300_000);
  await until(() => hooks.of('visitor-100').length > 0, 200_000, 20);
  await hooks.stop();
  const before = hooks.events.length;
  await sleep(3000);
  await hooks.listen(hooks.port);
  await joins;
  await hooks.waitFor(() => /left|aborted/.test(hooks.of('visitor-199')), 30_000);
  test.figure('before the receiver went', before);
  test.figure('all', hooks.events.length);
  test.check(before > 200 && before < hooks.events.length, `${before} of ${hooks.events.length} came before the receiver went`);
  const order = hooks.events.filter((e) => /^participant_/.test(e.event) && e.participant.identity !== 'resident').map((e) => `${e.event} ${e.participant.identity}`);
  // Who leaves before his media are there was never in the room for others.
  const aborted = (n) => hooks.of(`visitor-${n}`).includes('participant_connection_aborted');
  const kinds = (n) => (aborted(n) ? ['connection_aborted'] : ['joined', 'left']);
  const wanted = Array.from({ length: 200 }, (_, n) => kinds(n).map((kind) => `participant_${kind} visitor-${n}`)).flat();
  const wrong = wanted.findIndex((text, n) => order[n] !== text);
  test.check(order.length === wanted.length && wrong < 0, `${order.length} joins and leaves; number ${wrong} is ${order[wrong]}, not ${wanted[wrong]}`);
  test.figure('left before they were there', 400 - wanted.length);
  test.check(wanted.length > 300, `only ${wanted.length} joins and leaves`);
  const ids = new Set(hooks.events.map((e) => e.id));
  test.check(ids.size === hooks.events.length, `${hooks.events.length - ids.size} webhooks came twice`);
}

/** A case whose server posts to a receiver that is there before it. */
const withHooks = (run) => ({
  server: false,
  run: async (test) => {
    test.hooks = await Hooks.start();
    test.closing(test.hooks, () => test.hooks.stop());
    await test.startServer({ more: { webhook: { api_key: KEY, urls: [test.hooks.url] } } });
    await run(test);
    for (const problem of test.hooks.problems) test.check(false, problem);
  },
});

export const adminCases = [
  { name: 'admin-node', about: "every RoomService call of livekit-server-sdk, two pages, the SDK's WebhookReceiver", timeout: 90, ...withHooks(node) },
  { name: 'admin-python', about: 'every RoomService call of livekit-api', timeout: 60, run: (t) => runPython(t, 'admin', []) },
  { name: 'admin-rust', about: 'every RoomService call of the livekit-api crate, two pages with its tokens, its WebhookReceiver', timeout: 90, ...withHooks(rust) },
  { name: 'webhooks', about: '200 joins and leaves told in order to a receiver that is gone in between', timeout: 360, ...withHooks(webhooks) },
];
