// Every case, from the simplest to the longest. A case is
//   name, about; timeout in s; server: settings of Server.start, or false for none;
//   before(test): what the network needs first; run(test); over: the other transports it is repeated on;
//   waits: it mostly waits, and light: it leaves the machine idle; one of each may run at the same time.
import { filterInput } from '../lib/network.mjs';
import { adminCases } from './admin.mjs';
import { appCases } from './app.mjs';
import { badLineCases } from './bad-line.mjs';
import { browserCases } from './browsers.mjs';
import { ingressCases } from './ingress.mjs';
import { nodeCases } from './node.mjs';
import { processCases } from './process.mjs';
import { pythonCases } from './python.mjs';
import { resumeCases } from './resume.mjs';
import { wireCases } from './wire.mjs';

/** How media may have to travel instead. */
const TRANSPORTS = {
  tcp: { about: 'rtc.force_tcp', server: { rtc: { force_tcp: true } } },
  'no-udp': {
    about: 'every UDP packet dropped',
    server: {},
    before: (test) => {
      test.needNamespace();
      filterInput('meta l4proto udp drop');
    },
  },
};

function repeated(definition, transport) {
  const { about, server, before } = TRANSPORTS[transport];
  return {
    ...definition,
    name: `${definition.name}-${transport}`,
    about: `${definition.about}; ${about}`,
    protocol: 'tcp',
    server: { ...definition.server, ...server },
    before,
  };
}

export function allCases() {
  const once = [...processCases, ...pythonCases, ...nodeCases, ...browserCases, ...adminCases, ...resumeCases, ...wireCases, ...badLineCases, ...ingressCases, ...appCases];
  const again = Object.keys(TRANSPORTS).flatMap((transport) =>
    once.filter((c) => c.over?.includes(transport)).map((c) => repeated(c, transport)));
  return [...once, ...again];
}
