// LiveKit's server SDK for Rust in the shape of the one for Node, so that both pass the same tests. The crate runs in a
// process of its own, rust-admin/; its messages come as protobuf's JSON and are read as the Node SDK's own types.
import { AgentDispatch, ParticipantInfo, Room, TrackInfo, WebhookEvent } from 'livekit-server-sdk';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { rustAdmin } from './paths.mjs';
import { KEY, SECRET } from './token.mjs';
import { within } from './wait.mjs';

/** What the crate says of a failed call. It keeps no status of HTTP. */
export class RustError extends Error {
  constructor({ message, code, undecodable }) {
    super(message);
    Object.assign(this, { code, undecodable });
  }
}

export class RustAdmin {
  /** Runs until the case ends. */
  static start(test, secret = SECRET) {
    const err = fs.openSync(path.join(test.out, 'rust-admin.err'), 'a');
    const child = spawn(rustAdmin(), [test.server.http, KEY, secret], { stdio: ['pipe', 'pipe', err] });
    fs.closeSync(err);
    test.closing(child, () => child.kill('SIGKILL'));
    return new RustAdmin(child);
  }

  constructor(child) {
    this.child = child;
    this.lines = createInterface(child.stdout);
    this.gone = new Promise((resolve) => child.on('error', (e) => resolve(e.message)).on('exit', (code, signal) => resolve(signal ?? code)));
  }

  /** One call at a time. */
  async ask(call, args) {
    const line = Promise.race([once(this.lines, 'line'), this.gone.then((why) => { throw new Error(`rust-admin is gone: ${why}`); })]);
    this.child.stdin.write(`${JSON.stringify({ call, ...args })}\n`);
    const { answer, error } = JSON.parse(await within(15_000, `rust-admin's ${call}`, line));
    if (error) throw new RustError(error);
    return answer;
  }

  async createRoom(settings) { return Room.fromJson(await this.ask('createRoom', settings)); }
  async listRooms(names) { return (await this.ask('listRooms', { names })).map((x) => Room.fromJson(x)); }
  async deleteRoom(room) { await this.ask('deleteRoom', { room }); }
  async updateRoomMetadata(room, metadata) { return Room.fromJson(await this.ask('updateRoomMetadata', { room, metadata })); }
  async listParticipants(room) { return (await this.ask('listParticipants', { room })).map((x) => ParticipantInfo.fromJson(x)); }
  async getParticipant(room, identity) { return ParticipantInfo.fromJson(await this.ask('getParticipant', { room, identity })); }
  async removeParticipant(room, identity, options) { await this.ask('removeParticipant', { room, identity, ...options }); }
  async forwardParticipant(room, identity, destinationRoom) { await this.ask('forwardParticipant', { room, identity, destinationRoom }); }
  async moveParticipant(room, identity, destinationRoom) { await this.ask('moveParticipant', { room, identity, destinationRoom }); }
  async updateSubscriptions(room, identity, trackSids, subscribe) { await this.ask('updateSubscriptions', { room, identity, trackSids, subscribe }); }
  async sendData(room, data, _reliable, options) { await this.ask('sendData', { room, text: new TextDecoder().decode(data), ...options }); }

  async mutePublishedTrack(room, identity, trackSid, muted) {
    return TrackInfo.fromJson(await this.ask('mutePublishedTrack', { room, identity, trackSid, muted }));
  }

  async updateParticipant(room, identity, options) {
    return ParticipantInfo.fromJson(await this.ask('updateParticipant', { room, identity, ...options }));
  }

  async createDispatch(room, agentName, metadata) { return AgentDispatch.fromJson(await this.ask('createDispatch', { room, agentName, metadata })); }
  async listDispatch(room) { return (await this.ask('listDispatch', { room })).map((x) => AgentDispatch.fromJson(x)); }
  async deleteDispatch(id, room) { return AgentDispatch.fromJson(await this.ask('deleteDispatch', { id, room })); }
  /** The dispatch, or null. */
  async getDispatch(id, room) {
    const found = await this.ask('getDispatch', { id, room });
    return found && AgentDispatch.fromJson(found);
  }

  async listEgress(room) { await this.ask('listEgress', { room }); }

  /** An access token of the crate's making. */
  token(identity, room, canPublish = true) { return this.ask('token', { identity, room, canPublish }); }

  /** The crate's WebhookReceiver. */
  async receive({ body, authorization }) { return WebhookEvent.fromJson(await this.ask('webhook', { body, authorization })); }
}
