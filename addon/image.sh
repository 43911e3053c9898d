#!/usr/bin/env bash
# Builds the Dockerfile where no registry can be reached: by buildah, over stand-ins for the two images that it names,
# and looks at what comes out. The stand-in for Rust compiles nothing, it hands out BINARY. The release workflow builds
# over the real images.
#   addon/image.sh BINARY
# Needs root, Debian's buildah, busybox-static and iproute2, and cargo.
set -euo pipefail
binary=$(realpath "${1:?usage: addon/image.sh BINARY}")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
if [ "${2-}" != inside ]; then
  rmdir "$work"
  # What is mounted ends with us, and nobody else has our ports.
  exec unshare --mount --net "addon/${0##*/}" "$binary" inside
fi
ip link set lo up
export BUILDAH_ISOLATION=chroot
buildah() { command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
container=
finish() {
  [ -z "$container" ] || buildah umount "$container" >/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAIL: $1"; exit 1; }
# same WHAT GOT WANTED
same() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }

# stand_in NAME: an image of busybox and of what is in $work/NAME already.
stand_in() {
  local root=$work/$1
  mkdir -p "$root/bin" "$root/tmp" "$root/usr/bin" "$root/etc"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for command in chmod cp ls mkdir sh; do ln -sf busybox "$root/bin/$command"; done
  printf 'FROM scratch\nCOPY . /\n' >"$work/$1.Dockerfile"
  buildah bud -q -f "$work/$1.Dockerfile" -t "localhost/$1" "$root" >/dev/null
}

mkdir -p "$work/rust/bin" "$work/rust/opt"
cp "$binary" "$work/rust/opt/parlor"
printf '#!/bin/sh\n' >"$work/rust/bin/apk"
cat >"$work/rust/bin/cargo" <<'EOF'
#!/bin/sh
[ "$*" = "build --release --locked --bin parlor" ] || { echo "cargo $*" >&2; exit 1; }
[ -f Cargo.lock ] && [ -f src/main.rs ] && [ ! -e config.yaml ] && [ ! -e tests ] || { ls >&2; exit 1; }
mkdir -p target/release && cp /opt/parlor target/release/parlor
EOF
cat >"$work/rust/bin/install" <<'EOF'
#!/bin/sh
[ "$1 $2 $3 $4" = "-D -s -m 755" ] || { echo "install $*" >&2; exit 1; }
mkdir -p "${6%/*}" && cp "$5" "$6" && chmod 755 "$6"
EOF
chmod 755 "$work"/rust/bin/*
stand_in rust
# What the binary is linked with, nothing if it is static.
mkdir -p "$work/base"
for library in $(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*' || true); do install -D "$library" "$work/base$library"; done
stand_in base

# Debian 12's buildah does not know --start-interval yet.
sed 's|^FROM docker.io/library/rust:[^ ]*|FROM localhost/rust|; s| --start-interval=[^ ]*||' Dockerfile >"$work/Dockerfile"
buildah bud -q --format docker -f "$work/Dockerfile" -t parlor --ignorefile .dockerignore \
  --build-arg BUILD_FROM=localhost/base --build-arg BUILD_ARCH=amd64 --build-arg BUILD_VERSION=1.2.3 \
  --build-arg BUILD_DATE=now --build-arg BUILD_REF=main --build-arg BUILD_REPOSITORY=someone/parlor . >"$work/build.log" 2>&1 ||
  { cat "$work/build.log"; fail 'it does not build'; }

of() { buildah inspect --type image --format "{{$1}}" parlor; }
label() { of "index .Docker.Config.Labels \"$1\""; }
same 'the type' "$(label io.hass.type)" app
same 'the architecture' "$(label io.hass.arch)" amd64
same 'the version' "$(label io.hass.version) $(label org.opencontainers.image.version)" '1.2.3 1.2.3'
same 'the name' "$(label io.hass.name)" "$(sed -n 's/^name: //p' config.yaml)"
same 'the description' "$(label io.hass.description)" "$(sed -n 's/^description: //p' config.yaml)"
same 'the health check' "$(of .Docker.Config.Healthcheck.Test)" '[CMD /usr/bin/parlor healthcheck --options /data/options.json]'
case $(of .Docker.Config.Env) in *S6_VERBOSITY=1*) ;; *) fail 'S6_VERBOSITY is not set' ;; esac
same 'the entry point' "$(of .Docker.Config.Entrypoint)$(of .Docker.Config.Cmd)" '[][]'

container=$(buildah from parlor)
root=$(buildah mount "$container")
while read -r file; do
  same "/$file" "$(stat -c %a "$root/$file")" "$(stat -c %a "rootfs/$file")"
done < <(cd rootfs && find . -type f -printf '%P\n')
[ ! -e "$root/src" ] || fail 'the sources are in the image'
mkdir -p "$root/data"
cp addon/options.example.json "$root/data/options.json"
log=$work/log
buildah run "$container" /bin/busybox timeout -s TERM 3 /usr/bin/parlor --options /data/options.json >"$log" 2>&1 || true
grep -q 'public URL: https://calls.example.org' "$log" || { cat "$log"; fail 'no summary'; }

# The files of the Dockerfile, alone, are all that the manifest names.
mkdir "$work/context"
sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' Dockerfile | grep -v rootfs | tr ' ' '\n' | xargs -I{} cp -r {} "$work/context"
# Cargo looks for all that before it looks for the program.
( cd "$work/context" && cargo build --offline --locked --bin none 2>&1 || true ) | grep -q 'no bin target named' ||
  fail 'cargo wants more files than the Dockerfile copies'
echo ok
