// Real LiveKit clients as judges of the server. Every case has its own server process and, where the
// machine allows it, its own network namespace. Nothing is retried.
//   node run.mjs [--list] [NAME…]      a * in a NAME stands for anything
// Results, figures, screenshots and logs are in out/; the last line counts.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { allCases } from './cases/index.mjs';
import { unshareWords } from './lib/network.mjs';
import { inRoot, outDir, outOf, serverBinary } from './lib/paths.mjs';

const words = process.argv.slice(2);
const names = words.filter((w) => !w.startsWith('--'));
const matches = (name) => (word) => new RegExp(`^${word.replaceAll('.', '\\.').replaceAll('*', '.*')}$`).test(name);
const chosen = allCases().filter((c) => !names.length || names.some(matches(c.name)));

if (words.includes('--list')) {
  for (const c of chosen) console.log(`${c.name.padEnd(28)} ${c.about}`);
  process.exit(0);
}
if (!chosen.length) throw new Error(`no case is called ${names.join(' or ')}`);
if (!fs.existsSync(serverBinary())) throw new Error(`there is no ${serverBinary()}: cargo build --release`);

const unshare = unshareWords();
const isolated = unshare.length > 0;
if (!isolated) console.log('no network namespaces here: cases run on plain loopback, some not at all');

function runCase(definition) {
  const { name, timeout } = definition;
  fs.rmSync(outOf(name), { recursive: true, force: true });
  fs.mkdirSync(outOf(name), { recursive: true });
  const command = [...unshare, process.execPath, inRoot('lib/case-process.mjs'), name, isolated ? 'isolated' : 'shared'];
  const log = fs.openSync(path.join(outOf(name), 'process.log'), 'w');
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', log, log], detached: true });
  fs.closeSync(log);
  // The case ends itself in time; this is for one that hangs in its own clearing up.
  const timer = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), (timeout + 25) * 1000);
  const stop = () => { process.kill(-child.pid, 'SIGKILL'); process.exit(130); };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  return new Promise((resolve) => child.on('exit', (code) => {
    clearTimeout(timer);
    process.off('SIGINT', stop).off('SIGTERM', stop);
    try {
      resolve(JSON.parse(fs.readFileSync(path.join(outOf(name), 'result.json'), 'utf8')));
    } catch {
      resolve({ name, ok: false, seconds: timeout, problems: [`the case's process ended with ${code} and no result`], figures: {} });
    }
  }));
}

const results = [];
async function runInTurn(definitions) {
  for (const definition of definitions) {
    if (definition.waits) light ??= runInTurn(chosen.filter((c) => c.light));
    report(await runCase(definition));
  }
}

function report(result) {
  results.push(result);
  const word = result.skipped ? 'skip' : result.ok ? 'ok  ' : 'FAIL';
  console.log(`${word} ${result.name.padEnd(28)} ${String(result.seconds).padStart(6)} s${result.skipped ? `  ${result.skipped}` : ''}`);
  for (const problem of result.problems) console.log(`       ${problem}`);
  fs.writeFileSync(path.join(outDir, 'results.json'), JSON.stringify(results, null, 1));
}

// Light cases, which leave the machine idle, run beside those that wait most of their time.
let light;
await runInTurn(chosen.filter((c) => !c.light));
await (light ?? runInTurn(chosen.filter((c) => c.light)));
const failed = results.filter((r) => !r.ok && !r.skipped).length;
const skipped = results.filter((r) => r.skipped).length;
console.log(`${results.length - failed - skipped} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed ? 1 : 0);
