// A receiver of webhooks that verifies what comes as a backend does, with the server SDK.
import http from 'node:http';
import { WebhookReceiver } from 'livekit-server-sdk';
import { KEY, SECRET } from './token.mjs';
import { until } from './wait.mjs';

export class Hooks {
  /** Listens on `port`, or on a free one. */
  static async start(port = 0) {
    const hooks = new Hooks();
    await hooks.listen(port);
    return hooks;
  }

  constructor() {
    this.events = [];
    /** What each event came as: its body and the Authorization header. */
    this.posts = [];
    this.problems = [];
    this.receiver = new WebhookReceiver(KEY, SECRET);
  }

  async listen(port) {
    this.server = http.createServer((request, response) => this.handle(request, response));
    await new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, '127.0.0.1', resolve);
    });
    this.port = this.server.address().port;
  }

  get url() { return `http://127.0.0.1:${this.port}/hook`; }

  async handle(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const type = request.headers['content-type'];
    if (type !== 'application/webhook+json') this.problems.push(`a webhook came as ${type}`);
    const post = { body: Buffer.concat(parts).toString(), authorization: request.headers.authorization };
    try {
      this.events.push(await this.receiver.receive(post.body, post.authorization));
      this.posts.push(post);
    } catch (e) {
      this.problems.push(`the SDK refuses a webhook: ${e.message}`);
    }
    response.end();
  }

  /** What is told of `identity`, in the order of arrival. */
  of(identity) {
    return this.events.filter((e) => e.participant?.identity === identity).map((e) => e.event);
  }

  /** Waits until an event passes `test`. */
  waitFor(test, limit = 5000) {
    return until(() => this.events.find(test), limit, 50);
  }

  /** Nothing listens any more, and who is connected is cut off. */
  async stop() {
    if (!this.server.listening) return;
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
