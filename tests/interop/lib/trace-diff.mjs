// Compares two recordings: what the reference server sends and ours does not, and the reverse.
//
// Per kind of server message (and per HTTP answer): `-` a field that only the reference sets, `+`
// one that only ours sets, `~` a field with one value there and another here, `?` counts far apart.
// What differs by nature (SIDs, times, ports, tokens, SDP text) is left out. The reference was
// recorded twice; only what both runs show is asked for.
//   node lib/trace-diff.mjs reference/NAME.jsonl.gz mine.jsonl [KIND…]     kinds to leave out
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';

const BY_NATURE = new RegExp(
  '(^|\\.)(sid|sids|trackSids?|participantSids?|participantSid|participantTracks.*|cid|sdpCid|mid|midToTrackId.*|ssrc|sdp|id'
  + '|nodeId|region|version|serverVersion|turnPassword|sifTrailer|iceServers.*|candidateInit|refreshToken|creationTime.*'
  + '|joinedAt.*|createdAt|timestamp|unixMicro|ticks|updatedAt|lastPingTimestamp|level|score|stream|streamId|requestId|url'
  + '|bitrate|bytes|deletedAt|hash|ufrag|port|handle|pubHandle|subHandle|numVideos|numAudios|numParticipants|numPublishers)$'
  + '|\\.(sid|mid)\\b',
);

/** The rows of a recording, but for pings and the kinds of `without`. */
export function load(file, without = []) {
  const raw = fs.readFileSync(file);
  return (file.endsWith('.gz') ? zlib.gunzipSync(raw) : raw)
    .toString('utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter((o) => !/^(ping|pong)/.test(o.kind) && !without.includes(o.kind));
}

/** Calls `visit(path, value)` for every leaf; places in a list are all alike. */
function leaves(value, path, visit) {
  if (Array.isArray(value)) value.forEach((x) => leaves(x, `${path}[]`, visit));
  else if (value && typeof value === 'object') {
    for (const [key, v] of Object.entries(value)) leaves(v, path ? `${path}.${key}` : key, visit);
  } else visit(path, value);
}

function bodyOf(row) {
  if (!row.http) return row.dir === 'down' ? (row.msg ?? { body: row.body }) : undefined;
  try {
    return { type: row.http.answerType, body: JSON.parse(row.http.body) };
  } catch {
    return { type: row.http.answerType, body: row.http.body?.includes('bytes') ? {} : { text: row.http.body } };
  }
}

/** kind → how often, and the values of each path. */
function index(rows) {
  const kinds = new Map();
  for (const row of rows) {
    const body = bodyOf(row);
    if (!body) continue;
    const entry = kinds.get(row.kind) ?? { count: 0, paths: new Map() };
    entry.count += 1;
    leaves(body, '', (path, value) => {
      const seen = entry.paths.get(path) ?? new Set();
      if (seen.size < 9) seen.add(JSON.stringify(value));
      entry.paths.set(path, seen);
    });
    kinds.set(row.kind, entry);
  }
  return kinds;
}

const show = (values) => [...values].slice(0, 3).join(' ').slice(0, 90);
const single = (...sets) => sets.every((s) => s.size === 1);

/** Returns {missing, extra, counts}: lines of text; only `missing` is a fault. */
export function compare(reference, again, mine) {
  const [a, z, b] = [reference, again, mine].map(index);
  const missing = [];
  const extra = [];
  const counts = [];
  for (const kind of [...new Set([...a.keys(), ...z.keys(), ...b.keys()])].sort()) {
    const [there, twice, here] = [a.get(kind), z.get(kind), b.get(kind)];
    if (!here) {
      if (there && twice) missing.push(`- ${kind} ×${there.count}: never sent`);
    } else if (!there && !twice) {
      extra.push(`+ ${kind} ×${here.count}: the reference never sends it here`);
    } else {
      fields(kind, there?.paths ?? new Map(), twice?.paths ?? new Map(), here.paths, missing, extra);
      const n = (there ?? twice).count;
      if (here.count * 3 < n || n * 3 < here.count) counts.push(`? ${kind}: ×${n} there, ×${here.count} here`);
    }
  }
  return { missing, extra, counts };
}

function fields(kind, there, twice, here, missing, extra) {
  for (const [path, values] of there) {
    const second = twice.get(path);
    const ours = here.get(path);
    if (BY_NATURE.test(path) || !second) continue;
    if (!ours) missing.push(`- ${kind}: ${path} (${show(values)})`);
    else if (single(values, second, ours) && show(values) === show(second) && show(values) !== show(ours)) {
      missing.push(`~ ${kind}: ${path} ${show(values)} there, ${show(ours)} here`);
    }
  }
  for (const [path, values] of here) {
    if (!there.has(path) && !twice.has(path) && !BY_NATURE.test(path)) extra.push(`+ ${kind}: ${path} (${show(values)})`);
  }
}

/** Compares `mine` with a reference and with its second run beside it. */
export function compareFiles(reference, mine, without) {
  const again = reference.replace('.jsonl', '.again.jsonl');
  return compare(...[reference, again, mine].map((file) => load(file, without)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { missing, extra, counts } = compareFiles(process.argv[2], process.argv[3], process.argv.slice(4));
  console.log([...missing, ...extra, ...counts, `${missing.length} missing`].join('\n'));
  process.exit(missing.length ? 1 : 0);
}
