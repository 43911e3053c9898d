#!/usr/bin/env bash
# Builds what the image builds, without a container engine: static binaries against musl for both architectures, on
# Debian 12 with its own compiler (rustup's musl targets are not always in reach). Then starts each with sample options,
# aarch64 under qemu as a Raspberry Pi 4. Takes half an hour on two cores.
#   addon/static.sh [aarch64 | x86_64]
# Needs root or sudo to install.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${TMPDIR:-/tmp}/parlor-static
mkdir -p "$work/data"
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root apt-get -q update
as_root apt-get -q install -y --no-install-recommends \
  rustc-web cargo-web rust-web-src qemu-user-static python3-venv cmake make file ca-certificates curl openssl
[ -x "$work/venv/bin/cargo-zigbuild" ] || {
  /usr/bin/python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check ziglang cargo-zigbuild
}
# Debian's compiler, not rustup's.
export PATH=$work/venv/bin:/usr/bin:/bin CARGO_TARGET_DIR=$work/target
# The standard library is built too: Debian has none for musl. Its own start files are in the way of zig's.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C link-self-contained=no"

# The sample options on ports of our own, with TLS, so that the ciphers run too.
sed 's/: 788/: 2788/; s/"use_ssl": false/"use_ssl": true/' addon/options.example.json >"$work/options.json"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj /CN=calls.example.org \
  -addext subjectAltName=DNS:calls.example.org -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null

# try ARCH COMMAND…: starts it, asks it over TLS, ends it.
try() {
  local arch=$1 log=$work/$1.log pid cipher answered='' status=0
  shift
  fail() { cat "$log"; echo "FAIL: $arch: $1"; kill "$pid" 2>/dev/null || true; exit 1; }
  "$@" --options "$work/options.json" --data "$work/data" --ssl "$work" --run "$work/run" 2>"$log" &
  pid=$!
  for cipher in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
    answered=$(curl -sS --cacert "$work/fullchain.pem" --resolve calls.example.org:27880:127.0.0.1 --tls13-ciphers "$cipher" \
      --retry 20 --retry-delay 1 --retry-connrefused https://calls.example.org:27880/) || fail "$cipher: no answer"
    [ "$answered" = OK ] || fail "$cipher: answered $answered"
  done
  kill "$pid"
  wait "$pid" || status=$?
  [ "$status" = 0 ] || fail "ended with $status"
  grep -q 'public URL: https://calls.example.org:27880' "$log" || fail 'no summary'
  cat "$log"
}

for arch in ${1:-aarch64 x86_64}; do
  target=$arch-unknown-linux-musl
  cargo zigbuild --release --locked --bin parlor -Z build-std=std,panic_abort --target "$target"
  binary=$work/target/$target/release/parlor
  file "$binary" | grep -q 'statically linked'
  if [ "$arch" = x86_64 ]; then
    try "$arch" "$binary"
    continue
  fi
  # qemu refuses LSE instructions to this processor but, unlike the Raspberry Pi, grants it the cryptographic ones. So
  # aws-lc is told that there are none, and of what was executed none may be one.
  executed=$work/executed
  try "$arch" qemu-aarch64-static -cpu cortex-a72 -E OPENSSL_armcap=0x1 -d in_asm -D "$executed" "$binary"
  [ "$(wc -l <"$executed")" -gt 10000 ] || { echo 'FAIL: qemu does not tell what it executes'; exit 1; }
  if grep -m 10 -E '[[:space:]](aes(e|d|mc|imc)|sha(1|256|512)[a-z0-9]+|pmull2?[[:space:]]+v[0-9]+\.1q)' "$executed"; then
    echo 'FAIL: a Raspberry Pi 4 has no such instruction'
    exit 1
  fi
  rm "$executed"
done
echo ok
