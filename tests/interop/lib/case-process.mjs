// Runs one case and writes its result: run.mjs starts this in a namespace when there is one.
//   node lib/case-process.mjs NAME [isolated]
import fs from 'node:fs';
import path from 'node:path';
import { allCases } from '../cases/index.mjs';
import { raiseInterfaces } from './network.mjs';
import { outOf } from './paths.mjs';
import { Skip, Test } from './test.mjs';
import { sleep, within } from './wait.mjs';

const [name, network] = process.argv.slice(2);
const definition = allCases().find((c) => c.name === name);
const isolated = network === 'isolated';
const out = outOf(name);
fs.mkdirSync(out, { recursive: true });
const test = new Test(definition, out, isolated);
const start = Date.now();
let skipped;

async function play() {
  if (isolated) raiseInterfaces();
  definition.before?.(test);
  if (definition.server !== false) await test.startServer();
  await definition.run(test);
  test.check(!test.server?.exited || test.ended, `the server ended: ${JSON.stringify(test.server?.exited)}`);
}

try {
  await within(definition.timeout * 1000, name, play());
} catch (e) {
  if (e instanceof Skip) skipped = e.message;
  else {
    test.log(e.stack);
    test.problems.push(e.message.split('\n')[0]);
  }
}
await Promise.race([test.close(), sleep(10_000)]);
const seconds = +((Date.now() - start) / 1000).toFixed(1);
const result = { name, ok: !skipped && !test.problems.length, skipped, seconds, problems: test.problems, figures: test.figures };
fs.writeFileSync(path.join(out, 'result.json'), JSON.stringify(result, null, 1));
process.exit(0);
