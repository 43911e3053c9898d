// Access tokens, made by LiveKit's own server SDK.
import { AccessToken } from 'livekit-server-sdk';

export const KEY = 'devkey';
export const SECRET = 'secretsecretsecretsecretsecretsecret';

/** A token that may do everything a participant may; `grant` changes the video grant. */
export async function token(identity, room, grant = {}, { key = KEY, secret = SECRET, ttl = 600, attributes } = {}) {
  const t = new AccessToken(key, secret, { identity, name: identity, ttl, attributes });
  t.addGrant({ roomJoin: true, room, canPublish: true, canSubscribe: true, ...grant });
  return t.toJwt();
}
