// A proxy that stands between LiveKit clients and the server and writes down what they say.
//
// One JSON object a line: t (ms since start), c (connection), dir (up: the client speaks, down: the
// server), kind, and either `http` or `msg`, a signalling message as protobuf JSON. Tokens are cut
// out; SDP is shortened to the lines that matter. Read as a story:
//   node lib/recorder.mjs --kinds FILE
import { JoinRequest, SignalRequest, SignalResponse, WrappedJoinRequest } from '@livekit/protocol';
import fs from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';
import { WebSocket, WebSocketServer } from 'ws';

const KEPT_SDP = new RegExp(
  '^(m=|a=(group|ice-lite|ice-options|setup|mid|sendrecv|sendonly|recvonly|inactive|msid|rid|simulcast'
  + '|rtcp-mux|rtcp-rsize|extmap|sctp|max-message|candidate|end-of-c|rtpmap|fmtp|rtcp-fb|ssrc-group|ssrc:\\d+ msid))',
);
const shortSdp = (s) => (typeof s === 'string' ? s.split(/\r?\n/).filter((l) => KEPT_SDP.test(l)).join('\n') : s);

function clean(value) {
  if (Array.isArray(value)) return value.map(clean);
  if (!value || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => {
    if (key === 'sdp') return [key, shortSdp(v)];
    return [key, /^(refreshToken|accessToken|access_token)$/.test(key) ? '<token>' : clean(v)];
  }));
}

function queryOf(url) {
  const query = {};
  for (const [key, value] of url.searchParams) {
    if (key === 'access_token') query[key] = '<token>';
    else if (key === 'join_request') query[key] = joinRequestOf(value);
    else query[key] = value;
  }
  return query;
}

function joinRequestOf(text) {
  try {
    const { compression, joinRequest } = WrappedJoinRequest.fromBinary(Buffer.from(text, 'base64'));
    const raw = compression ? zlib.gunzipSync(joinRequest) : joinRequest;
    return { compression, join: clean(JoinRequest.fromBinary(raw).toJson()) };
  } catch (e) {
    return `undecodable: ${e.message}`;
  }
}

function decode(type, data, binary) {
  try {
    const m = binary ? type.fromBinary(data) : type.fromJsonString(data.toString(), { ignoreUnknownFields: true });
    return { kind: m.message.case ?? 'none', frame: binary ? 'binary' : 'text', bytes: data.length, msg: clean(m.toJson()) };
  } catch (e) {
    return { kind: 'undecodable', error: e.message, bytes: data.length };
  }
}

const whole = (stream) =>
  new Promise((resolve) => {
    const parts = [];
    stream.on('data', (b) => parts.push(b)).on('end', () => resolve(Buffer.concat(parts)));
  });

const PASSED_ON = ['authorization', 'user-agent', 'origin', 'x-forwarded-for'];
/** Codes that a program may put into a close frame. */
const closeCode = (code) => (code >= 1000 && code < 5000 && ![1004, 1005, 1006, 1015].includes(code) ? code : 1000);

export class Recorder {
  /** Listens on a free port of 127.0.0.1, passes on to `upstream` (http://…), writes to `file`. */
  static async start(upstream, file) {
    const recorder = new Recorder(new URL(upstream), file);
    await new Promise((resolve) => recorder.server.listen(0, '127.0.0.1', resolve));
    recorder.url = `ws://127.0.0.1:${recorder.server.address().port}`;
    return recorder;
  }

  constructor(upstream, file) {
    this.upstream = upstream;
    this.file = fs.createWriteStream(file);
    this.t0 = Date.now();
    this.connections = 0;
    this.sockets = new WebSocketServer({ noServer: true });
    this.server = http.createServer((q, r) => this.request(q, r));
    this.server.on('upgrade', (q, socket, head) => this.upgrade(q, socket, head));
  }

  write(entry) {
    if (!this.file.writableEnded) this.file.write(`${JSON.stringify({ t: Date.now() - this.t0, ...entry })}\n`);
  }

  /** Plain HTTP: validate, Twirp. */
  async request(query, reply) {
    const url = new URL(query.url, this.upstream);
    const body = await whole(query);
    const { hostname, port, host } = this.upstream;
    const onward = http.request({ hostname, port, method: query.method, path: query.url, headers: { ...query.headers, host } });
    onward.on('error', (e) => { reply.writeHead(502); reply.end(String(e)); });
    onward.on('response', async (answer) => {
      const text = await whole(answer);
      const type = query.headers['content-type'];
      const answerType = answer.headers['content-type'];
      this.write({
        kind: `http ${query.method} ${url.pathname} ${answer.statusCode}`,
        http: {
          query: queryOf(url),
          type,
          answerType,
          request: type?.includes('json') ? body.toString('utf8') : `${body.length} bytes`,
          body: answerType?.includes('protobuf') ? `${text.length} bytes of protobuf` : text.toString('utf8'),
        },
      });
      reply.writeHead(answer.statusCode, answer.headers);
      reply.end(text);
    });
    onward.end(body);
  }

  upgrade(query, socket, head) {
    const c = ++this.connections;
    const url = new URL(query.url, this.upstream);
    const headers = Object.fromEntries(PASSED_ON.filter((h) => query.headers[h]).map((h) => [h, query.headers[h]]));
    const ws = new WebSocket(`ws://${this.upstream.host}${query.url}`, { headers, perMessageDeflate: false });
    this.write({ c, kind: `ws ${url.pathname}`, query: queryOf(url) });
    ws.on('unexpected-response', async (_, answer) => {
      const text = await whole(answer);
      this.write({ c, dir: 'down', kind: `refused ${answer.statusCode}`, body: text.toString() });
      socket.end(`HTTP/1.1 ${answer.statusCode} x\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`);
    });
    ws.on('error', () => socket.destroy());
    const early = []; // the server speaks before our own handshake with the client is done
    ws.on('message', (data, binary) => early.push([data, binary]));
    ws.on('open', () => this.sockets.handleUpgrade(query, socket, head, (client) => this.join(c, ws, client, early)));
  }

  join(c, ws, client, early) {
    const down = (data, binary) => {
      this.write({ c, dir: 'down', ...decode(SignalResponse, data, binary) });
      client.send(data, { binary });
    };
    ws.removeAllListeners('message');
    early.forEach(([data, binary]) => down(data, binary));
    ws.on('message', down);
    client.on('message', (data, binary) => {
      this.write({ c, dir: 'up', ...decode(SignalRequest, data, binary) });
      ws.send(data, { binary });
    });
    const end = (dir, other) => (code, reason) => {
      this.write({ c, dir, kind: `close ${code}`, reason: String(reason) });
      other.close(closeCode(code));
    };
    client.on('close', end('up', ws));
    ws.on('close', end('down', client));
    client.on('error', () => {});
  }

  async close() {
    this.server.close();
    this.server.closeAllConnections();
    for (const client of this.sockets.clients) client.terminate();
    await new Promise((resolve) => this.file.end(resolve));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = process.argv[process.argv.indexOf('--kinds') + 1];
  const arrow = { up: '→', down: '←' };
  for (const line of fs.readFileSync(file, 'utf8').trim().split('\n')) {
    const { t, c, dir, kind } = JSON.parse(line);
    console.log(String(t).padStart(7), String(c ?? '').padStart(3), arrow[dir] ?? ' ', kind);
  }
}
