// What a test page does with livekit-client: joins, publishes the fake camera and microphone, shows
// what it receives, and counts it. Works with version 1.13 too.
'use strict';

const seen = { events: [], tracks: new Map(), data: [] };
window.seen = seen;

/** From now on this page's descriptions of video have no `codec` (`VP9`). */
window.forgetCodec = (codec) => {
  const known = RTCRtpReceiver.getCapabilities('video').codecs.filter((c) => c.mimeType !== `video/${codec}`);
  for (const name of ['createOffer', 'createAnswer']) {
    const describe = RTCPeerConnection.prototype[name];
    RTCPeerConnection.prototype[name] = function forget(...args) {
      const videos = this.getTransceivers().filter((t) => t.receiver.track.kind === 'video' && !t.stopped);
      for (const transceiver of videos) transceiver.setCodecPreferences(known);
      return describe.apply(this, args);
    };
  }
};

/** The codecs in which this page sends video now. */
window.sentCodecs = async () => {
  const codecs = new Set();
  const report = await room.engine.pcManager.publisher.getStats();
  for (const x of report.values()) {
    if (x.type === 'outbound-rtp' && x.kind === 'video' && x.active && x.framesSent) codecs.add(report.get(x.codecId)?.mimeType);
  }
  return [...codecs].sort();
};

/** Joins the token's room; `roomOptions` replace the usual ones, `rtcConfig` is the browser's own. Answers how long it took. */
window.join = async ({ url, token, codec, withoutCodec, singlePeerConnection, publish = true, roomOptions = {}, rtcConfig }) => {
  const L = LivekitClient;
  L.setLogLevel('warn');
  if (withoutCodec) window.forgetCodec(withoutCodec);
  const options = {
    adaptiveStream: true,
    dynacast: true,
    publishDefaults: { simulcast: true, videoCodec: codec ?? 'vp8', backupCodec: false },
    videoCaptureDefaults: { resolution: L.VideoPresets.h720.resolution },
  };
  if (singlePeerConnection !== undefined) options.singlePeerConnection = singlePeerConnection;
  const room = new L.Room({ ...options, ...roomOptions });
  window.room = room;
  const start = performance.now();
  const elapsed = () => Math.round(performance.now() - start);
  for (const name of ['ConnectionStateChanged', 'Reconnecting', 'Reconnected', 'Disconnected', 'TrackSubscriptionFailed', 'MediaDevicesError']) {
    room.on(L.RoomEvent[name], (...args) => seen.events.push([elapsed(), name, args.map((x) => x?.message ?? x?.identity ?? String(x)).join(' ')]));
  }
  room.on(L.RoomEvent.DataReceived, (payload, _participant, _kind, topic) => seen.data.push([topic, new TextDecoder().decode(payload)]));
  room.on(L.RoomEvent.TrackSubscribed, (track, publication, p) => {
    const element = track.attach();
    element.autoplay = true;
    if (track.kind === 'video') element.style.cssText = 'width:1280px;height:720px;display:block';
    document.body.append(element);
    seen.tracks.set(publication.trackSid, { from: p.identity, track, publication });
  });
  room.on(L.RoomEvent.TrackUnsubscribed, (track, publication) => {
    track.detach().forEach((element) => element.remove());
    seen.tracks.delete(publication.trackSid);
  });
  await room.connect(url, token, { maxRetries: 0, rtcConfig });
  const connectMs = elapsed();
  if (publish) await room.localParticipant.enableCameraAndMicrophone();
  return { connectMs, publishedMs: elapsed(), version: L.version, server: room.serverInfo?.version ?? room.serverVersion };
};

/** Gives every video element this style. */
window.styleVideos = (css) => document.querySelectorAll('video').forEach((v) => { v.style.cssText = css; });

/** Times the frames of `from`'s video until `stopGaps` answers how many there were and the longest pause in ms. */
window.startGaps = (from) => {
  const { track } = [...seen.tracks.values()].find((x) => x.from === from && x.track.kind === 'video');
  const reader = new MediaStreamTrackProcessor({ track: track.mediaStreamTrack.clone() }).readable.getReader();
  let [frames, longest, last, stopped] = [0, 0, performance.now(), false];
  const pass = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  (async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done || stopped) return;
      value.close();
      frames += 1;
      pass();
    }
  })();
  window.stopGaps = () => {
    pass(); // a pause that is not over counts as well
    stopped = true;
    return { frames, longest: Math.round(longest) };
  };
};

const statsOf = async (track) => (await (track.getRTCStatsReport?.() ?? track.receiver?.getStats())) ?? new Map();

/** WebRTC's own counters of every received track. */
window.received = async () => {
  const rows = [];
  for (const { from, track } of seen.tracks.values()) {
    const report = await statsOf(track);
    for (const x of report.values()) {
      if (x.type !== 'inbound-rtp') continue;
      rows.push({
        from,
        kind: x.kind,
        codec: report.get(x.codecId)?.mimeType,
        frames: x.framesDecoded,
        keyFrames: x.keyFramesDecoded,
        whole: x.framesReceived,
        plis: x.pliCount,
        nacks: x.nackCount,
        width: x.frameWidth,
        height: x.frameHeight,
        bytes: x.bytesReceived,
        packets: x.packetsReceived,
        lost: x.packetsLost,
        freezes: x.freezeCount,
        frozenSeconds: x.totalFreezesDuration,
        energy: x.totalAudioEnergy,
        samples: x.totalSamplesReceived,
        concealed: x.concealedSamples,
        streamState: track.streamState,
      });
    }
  }
  return rows;
};

/** Publishes a tone as microphone, as loud as `setTone` says (0 to 1); silent at first. */
window.publishTone = async () => {
  const context = new AudioContext();
  await context.resume();
  const tone = new OscillatorNode(context, { frequency: 300 });
  const volume = new GainNode(context, { gain: 0 });
  const out = new MediaStreamAudioDestinationNode(context);
  tone.connect(volume).connect(out);
  tone.start();
  window.setTone = (gain) => { volume.gain.value = gain; };
  await room.localParticipant.publishTrack(out.stream.getAudioTracks()[0], { source: LivekitClient.Track.Source.Microphone, dtx: false });
};

/** Who speaks now, and how loud each is (0 to 1). */
window.speakers = () => room.activeSpeakers.map((p) => [p.identity, p.audioLevel]);

/**
 * Sends a numbered message to all every `pause` ms. `stopNumbers` answers which the SDK gave to its data channel in
 * turn, and how many it took and did not: of those that 2.23 takes around an attempt to reconnect it forgets some, and
 * gives some after later ones, when every receiver drops them for their sequence number.
 */
window.startNumbers = (pause) => {
  let n = 0;
  let accepted = 0;
  let highest = -1;
  const given = new Set();
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function note(data) {
    const number = /#(\d+)#/.exec(new TextDecoder('latin1').decode(data));
    if (number && Number(number[1]) > highest) {
      highest = Number(number[1]);
      given.add(highest);
    }
    return send.call(this, data);
  };
  const publish = (number) => room.localParticipant
    .publishData(new TextEncoder().encode(`#${number}#`), { reliable: true, topic: 'n' })
    .then(() => { accepted += 1; }, (e) => seen.events.push([0, 'DataRefused', `${number} ${e.message}`]));
  const timer = setInterval(() => publish(n++), pause);
  window.stopNumbers = () => {
    clearInterval(timer);
    return { given: [...given], kept: accepted - given.size };
  };
};

/** Takes one file; `window.received` is its digest, or how much of it has come. */
window.receiveFile = () => {
  room.registerByteStreamHandler('file', async (reader) => {
    const parts = [];
    for await (const part of reader) {
      parts.push(part);
      window.received = (window.received ?? 0) + part.length;
    }
    window.received = await digest(new Blob(parts));
  });
};

/** Sends a file of that many megabytes to all; answers its digest. */
window.sendFile = async (megabytes) => {
  const parts = Array.from({ length: megabytes * 16 }, () => crypto.getRandomValues(new Uint8Array(62_500)));
  const sent = new File(parts, 'file.bin');
  await room.localParticipant.sendFile(sent, { topic: 'file' });
  return digest(sent);
};

async function digest(blob) {
  const hash = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The messages that came: topic and text. */
window.data = () => seen.data;

/** Who else is here. */
window.others = () => [...room.remoteParticipants.values()].map((p) => ({
  identity: p.identity, name: p.name, metadata: p.metadata, attributes: p.attributes,
}));

/** What this page publishes. */
window.local = () => [...room.localParticipant.trackPublications.values()].map((p) => ({ sid: p.trackSid, kind: p.kind, muted: p.isMuted }));

/** The layers that this page sends. */
window.sent = async () => {
  const rows = [];
  const { trackPublications, tracks } = room.localParticipant;
  for (const { track } of (trackPublications ?? tracks).values()) {
    const report = (await (track.getRTCStatsReport?.() ?? track.sender?.getStats())) ?? new Map();
    for (const x of report.values()) {
      if (x.type === 'outbound-rtp') rows.push({ kind: x.kind, rid: x.rid, active: x.active, frames: x.framesSent, width: x.frameWidth, encoder: x.encoderImplementation });
    }
  }
  return rows;
};

/** The nominated candidate pair of each peer connection. */
window.paths = async () => {
  const found = [];
  for (const name of ['publisher', 'subscriber']) {
    const report = new Map((await room.engine.pcManager?.[name]?.getStats?.()) ?? []);
    for (const x of report.values()) {
      if (x.type !== 'candidate-pair' || !x.nominated || x.state !== 'succeeded') continue;
      const remote = report.get(x.remoteCandidateId);
      const local = report.get(x.localCandidateId)?.candidateType;
      found.push({ connection: name, protocol: remote?.protocol, address: remote?.address ?? remote?.ip, port: remote?.port, type: remote?.candidateType, local });
    }
  }
  return found;
};
