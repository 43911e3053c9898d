// Scripted stories of two pages, as the reference server was recorded with them: the same steps in
// the same order with the same pauses.
import { Page } from './page.mjs';
import { sleep } from './wait.mjs';

const PLAIN = { adaptiveStream: false, publishDefaults: {} };
/** After every step, ms. */
export const PAUSE = 700;

export async function join(test, browser, identity, room, { publish, roomOptions, grant, ...how } = {}) {
  return Page.join(test, browser, identity, {
    room,
    url: test.recording?.url,
    grant: { canUpdateOwnMetadata: true, ...grant },
    publish,
    ...how,
    roomOptions: { ...PLAIN, ...roomOptions },
  });
}

/** One step of a page; what it answers, or `threw …`. */
export async function step(test, page, label, action) {
  const answer = await page.tab.evaluate(action).catch((e) => `threw ${e.message.split('\n')[0]}`);
  test.log(`${page.identity}: ${label} ${answer ?? ''}`);
  test.check(!String(answer).startsWith('threw'), `${page.identity}: ${label} ${answer}`);
  await sleep(PAUSE);
  return answer;
}

/* The steps below run in the page; `room` is its room. */
const forVideos = (action) =>
  `for (const p of room.remoteParticipants.values()) for (const t of p.videoTrackPublications.values()) { ${action} }`;

const SHARE_CANVAS = `(async () => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
  const ink = canvas.getContext('2d');
  setInterval(() => {
    ink.fillStyle = '#' + Math.floor(Math.random() * 4095).toString(16).padStart(3, '0');
    ink.fillRect(0, 0, 1280, 720);
  }, 100);
  const [track] = canvas.captureStream(10).getVideoTracks();
  await room.localParticipant.publishTrack(track, { source: 'screen_share', name: 'screen', simulcast: true });
})()`;

const UNPUBLISH_CAMERA = `(async () => {
  const [publication] = room.localParticipant.videoTrackPublications.values();
  await room.localParticipant.unpublishTrack(publication.track);
})()`;

const me = 'room.localParticipant';

/** Everything that two people do in a long call. */
export async function life(test) {
  const browser = await test.chromium();
  const alice = await join(test, browser, 'alice', 'life');
  const bob = await join(test, browser, 'bob', 'life');
  await sleep(1500);
  const a = (label, action) => step(test, alice, label, action);
  const b = (label, action) => step(test, bob, label, action);

  await a('setName', `${me}.setName('Alice A.')`);
  await a('setMetadata', `${me}.setMetadata('{"hand":true}')`);
  await a('setAttributes', `${me}.setAttributes({ lang: 'en', x: '' })`);
  await a('microphone off', `void ${me}.setMicrophoneEnabled(false)`);
  await a('microphone on', `void ${me}.setMicrophoneEnabled(true)`);
  await a('camera off', `void ${me}.setCameraEnabled(false)`);
  await a('camera on', `void ${me}.setCameraEnabled(true)`);
  await b('unsubscribe from video', forVideos('t.setSubscribed(false)'));
  await b('subscribe again', forVideos('t.setSubscribed(true)'));
  await b('low quality', forVideos('t.setVideoQuality(0)'));
  await b('disabled', forVideos('t.setEnabled(false)'));
  await b('enabled, 10 fps', forVideos('t.setEnabled(true); t.setVideoFPS(10)'));
  const text = "new TextEncoder().encode('hello')";
  await a('reliable data', `${me}.publishData(${text}, { reliable: true, topic: 'chat' })`);
  await a('lossy data to bob', `${me}.publishData(${text}, { reliable: false, destinationIdentities: ['bob'] })`);
  await b('answers calls', "void room.registerRpcMethod('greet', async (d) => 'hi ' + d.payload)");
  const greeting = await a('calls', `${me}.performRpc({ destinationIdentity: 'bob', method: 'greet', payload: 'alice' })`);
  test.check(greeting === 'hi alice', `the remote call answered ${greeting}`);
  await b('reads streams', "void room.registerTextStreamHandler('t', async (s) => { window.got = await s.readAll(); })");
  await a('sends a text stream', `${me}.sendText('x'.repeat(40000), { topic: 't' }).then(() => 'sent')`);
  const length = await b('has read', 'window.got?.length');
  test.check(length === 40000, `of 40,000 letters ${length} came`);
  await a('allows nobody', `void ${me}.setTrackSubscriptionPermissions(false, [])`);
  await a('allows bob', `void ${me}.setTrackSubscriptionPermissions(false, [{ participantIdentity: 'bob', allowAll: true }])`);
  await a('allows all', `void ${me}.setTrackSubscriptionPermissions(true)`);
  await a('unpublishes the camera', UNPUBLISH_CAMERA);
  await a('publishes it again', `void ${me}.setCameraEnabled(true)`);
  await sleep(2000);
  await a('shares a screen', SHARE_CANVAS);
  await sleep(2000);
  const known = await b('knows of alice', `(() => {
    const p = room.remoteParticipants.get('alice');
    return JSON.stringify([p.name, p.metadata, p.attributes, p.trackPublications.size]);
  })()`);
  test.check(known === '["Alice A.","{\\"hand\\":true}",{"lang":"en"},3]', `bob knows of alice ${known}`);
  await alice.leave();
  await sleep(1700);
  await bob.leave();
  await sleep(PAUSE);
}

const CODECS = [
  { videoCodec: 'h264' },
  { videoCodec: 'vp9' },
  { videoCodec: 'av1' },
  { videoCodec: 'vp9', backupCodec: true },
  { videoCodec: 'vp8', red: false, dtx: false, simulcast: false },
  { videoCodec: 'vp8', forceStereo: true },
];

/** One publisher and one subscriber for each way to publish. */
export async function codecs(test) {
  const browser = await test.chromium();
  for (const publishDefaults of CODECS) {
    const alice = await join(test, browser, 'alice', 'codecs', { roomOptions: { publishDefaults } });
    const bob = await join(test, browser, 'bob', 'codecs', { publish: false });
    await sleep(4000);
    const video = await bob.track('alice', 'video');
    test.figure(JSON.stringify(publishDefaults), `${video?.codec} ${video?.width}: ${video?.frames} frames`);
    test.check(video?.frames > 20, `${JSON.stringify(publishDefaults)}: bob decoded ${video?.frames} frames`);
    test.check(video?.codec?.toLowerCase() === `video/${publishDefaults.videoCodec}`, `${JSON.stringify(publishDefaults)}: bob received ${video?.codec}`);
    await alice.leave();
    await sleep(PAUSE);
    await bob.leave();
    await sleep(PAUSE);
  }
}
