#!/usr/bin/env bash
# Starts the image as Supervisor does and looks whether it gets well, says what it should, and ends as it should.
#   addon/smoke.sh IMAGE
# Needs docker. The release workflow runs it on both architectures before anything is pushed.
set -euo pipefail
cd "$(dirname "$0")"
image=${1:?usage: addon/smoke.sh IMAGE}
data=$(mktemp -d)
container=
finish() {
  [ -z "$container" ] || docker rm -f "$container" >/dev/null
  # The container's root owns what is in there.
  docker run --rm --entrypoint /bin/sh -v "$data:/data" "$image" -c 'rm -rf /data/*' >/dev/null
  rmdir "$data"
}
trap finish EXIT
fail() {
  echo "FAIL: $1"
  docker logs "$container" 2>&1 | tail -n 40
  exit 1
}
start() {
  container=$(docker run -d --network host -v "$data:/data" -e TZ=Europe/Berlin "$image")
}

cp options.example.json "$data/options.json"
start
for _ in $(seq 60); do
  state=$(docker inspect -f '{{.State.Health.Status}}' "$container")
  [ "$state" = healthy ] && break
  sleep 1
done
[ "$state" = healthy ] || fail "it did not get well in a minute: $state"
log=$(docker logs "$container" 2>&1)
case $log in *'public URL: https://calls.example.org'*) ;; *) fail 'no summary' ;; esac
secret=$(docker exec "$container" sed -n 's/.*"api_secret": "\(.*\)".*/\1/p' /data/keys.json)
[ "${#secret}" -ge 32 ] || fail 'no secret was made'
case $log in *"$secret"*) fail 'the secret is in the log' ;; esac
docker exec "$container" stat -c %a /data/keys.json | grep -qx 600 || fail 'others may read the secret'
start_of_stop=$SECONDS
docker stop -t 30 "$container" >/dev/null
[ $((SECONDS - start_of_stop)) -le 8 ] || fail 'the stop took too long'
[ "$(docker inspect -f '{{.State.ExitCode}}' "$container")" = 0 ] || fail 'the stop did not end with 0'
docker rm "$container" >/dev/null

# A wrong option: told once, and nothing else is in the panel.
echo '{"http_port": 0}' >"$data/options.json"
start
code=$(timeout 60 docker wait "$container")
[ "$code" = 1 ] || fail "a wrong option ended with $code"
[ "$(docker logs "$container" 2>&1 | wc -l)" = 2 ] || fail 'the panel shows more than the problems'
echo "ok: $image"
