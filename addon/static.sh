#!/usr/bin/env bash
# Builds what the image builds, without a container engine: static binaries against musl for both architectures, on
# Debian 12 with its own compiler (rustup's musl targets are not always in reach). Then starts each with sample options
# up to its summary. Takes half an hour on two cores.
#   addon/static.sh [aarch64 | x86_64]
# Needs root or sudo to install.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${TMPDIR:-/tmp}/parlor-static
mkdir -p "$work/data"
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root apt-get -q update
as_root apt-get -q install -y --no-install-recommends rustc-web cargo-web rust-web-src qemu-user-static python3-venv cmake
[ -x "$work/venv/bin/cargo-zigbuild" ] || {
  /usr/bin/python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check ziglang cargo-zigbuild
}
# Debian's compiler, not rustup's.
export PATH=$work/venv/bin:/usr/bin:/bin CARGO_TARGET_DIR=$work/target
# The standard library is built too: Debian has none for musl. Its own start files are in the way of zig's.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C link-self-contained=no"

for arch in ${1:-aarch64 x86_64}; do
  target=$arch-unknown-linux-musl
  cargo zigbuild --release --locked --bin parlor -Z build-std=std,panic_abort --target "$target"
  binary=$work/target/$target/release/parlor
  file "$binary" | grep -q 'statically linked'
  run=("$binary")
  [ "$arch" = x86_64 ] || run=(qemu-aarch64-static -cpu cortex-a72 "$binary")
  echo '{"http_port": 27880, "rtc_tcp_port": 27881}' >"$work/options.json"
  log=$work/$arch.log
  status=0
  timeout --preserve-status -s TERM 20 "${run[@]}" --options "$work/options.json" --data "$work/data" \
    --run "$work/run" 2>"$log" || status=$?
  cat "$log"
  [ "$status" = 0 ] || { echo "FAIL: $arch ended with $status"; exit 1; }
  grep -q 'API key and secret' "$log" || { echo "FAIL: $arch: no summary"; exit 1; }
done
echo ok
