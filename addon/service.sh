#!/usr/bin/env bash
# Runs the s6 service of the image without the image: `run` and `finish` under s6-svscan, over stand-ins for what the
# base image has. Needs root, and Debian's s6, execline and iproute2.
#   addon/service.sh BINARY
set -euo pipefail
binary=$(realpath "${1:?usage: addon/service.sh BINARY}")
cd "$(dirname "$0")/.."
service=$PWD/rootfs/etc/s6-overlay/s6-rc.d/parlor
if [ "${2-}" != inside ]; then
  # Places to mount on; what is mounted there nobody outside sees, so that what is there already does not matter. A run
  # that was killed may have left one of ours, empty.
  made=()
  for directory in /command /data; do
    [ -d "$directory" ] || { mkdir "$directory"; made+=("$directory"); }
  done
  [ -e /usr/bin/parlor ] || touch /usr/bin/parlor
  trap '[ -s /usr/bin/parlor ] || rm /usr/bin/parlor; [ ${#made[@]} = 0 ] || rmdir "${made[@]}"' EXIT
  unshare --mount --net "addon/${0##*/}" "$binary" inside
  exit
fi

ip link set lo up
for directory in /command /data /run; do
  mount -t tmpfs tmpfs "$directory"
done
mkdir -p /run/s6/basedir/bin /run/s6-linux-init-container-results /run/env /run/scan/parlor
mount --bind "$binary" /usr/bin/parlor
printf '#!/bin/execlineb -S0\ns6-envdir /run/env $@\n' >/command/with-contenv
printf '#!/bin/sh\n: >/run/halted\n' >/run/s6/basedir/bin/halt
chmod 755 /command/with-contenv /run/s6/basedir/bin/halt
printf UTC >/run/env/TZ
cp "$service/run" "$service/finish" /run/scan/parlor/

fail() {
  echo "FAIL: $1"
  cat /run/log
  exit 1
}
# begin OPTIONS: a service as the container starts it.
begin() {
  echo "$1" >/data/options.json
  echo 0 >/run/s6-linux-init-container-results/exitcode
  rm -f /run/halted
  s6-svscan /run/scan >/run/log 2>&1 &
  scanner=$!
}
# end: takes the supervision tree down, as a stop of the container does.
end() {
  s6-svscanctl -t /run/scan
  wait "$scanner"
}
# until_true COMMAND…: for at most ten seconds.
until_true() {
  for _ in $(seq 100); do
    "$@" 2>/dev/null && return 0
    sleep 0.1
  done
  return 1
}
result() { cat /run/s6-linux-init-container-results/exitcode; }
well() { /usr/bin/parlor healthcheck --options /data/options.json >/dev/null; }

begin '{"http_port": 17880, "rtc_tcp_port": 17881}'
until_true well || fail 'it did not get well'
end
[ "$(result)" = 0 ] || fail "a stop ended with $(result)"
[ ! -e /run/halted ] || fail 'a stop halts by itself'
grep -q ERROR /run/log && fail 'a stop writes no error'
grep -v '^\[' /run/log && fail 'somebody else writes into the panel'

begin '{"http_port": 17880, "rtc_tcp_port": 17881}'
until_true well || fail 'it did not get well again'
kill -9 "$(s6-svstat -o pid /run/scan/parlor)"
until_true well || fail 'it is not started again after a crash'
[ ! -e /run/halted ] || fail 'a crash ended the container'
end

begin '{"http_port": 0}'
until_true test -e /run/halted || fail 'a wrong option does not end the container'
[ "$(result)" = 1 ] || fail "a wrong option ended with $(result)"
end
[ "$(wc -l </run/log)" = 2 ] || fail 'the panel shows more than the problems'
echo ok
