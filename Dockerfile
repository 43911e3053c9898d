# The image of the Home Assistant app, the same file for both architectures.
ARG BUILD_FROM=ghcr.io/home-assistant/base:3.24

FROM docker.io/library/rust:1-alpine3.24 AS build
# aws-lc is C and assembler, built by cmake. Nothing of it is in the final image, so its versions are Alpine's.
# hadolint ignore=DL3018
RUN apk add --no-cache build-base cmake linux-headers perl
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# Cargo wants to see what the manifest names.
COPY benches benches
COPY src src
# Static, and for any processor of the architecture: a Raspberry Pi 4 has no AES instructions.
RUN cargo build --release --locked --bin parlor && install -D -s -m 755 target/release/parlor /out/parlor

# hadolint ignore=DL3006
FROM ${BUILD_FROM}
# Warnings only: the log panel belongs to Parlor.
ENV S6_VERBOSITY=1
COPY --from=build /out/parlor /usr/bin/parlor
COPY rootfs /
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=2s --retries=3 \
    CMD ["/usr/bin/parlor", "healthcheck", "--options", "/data/options.json"]

ARG BUILD_ARCH
ARG BUILD_DATE
ARG BUILD_REF
ARG BUILD_REPOSITORY
ARG BUILD_VERSION
LABEL \
    io.hass.type="app" \
    io.hass.name="Parlor" \
    io.hass.description="Voice and video calls for Matrix, Element Call and LiveKit apps" \
    io.hass.arch="${BUILD_ARCH}" \
    io.hass.version="${BUILD_VERSION}" \
    org.opencontainers.image.title="Parlor" \
    org.opencontainers.image.description="Voice and video calls for Matrix, Element Call and LiveKit apps" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.created="${BUILD_DATE}" \
    org.opencontainers.image.revision="${BUILD_REF}" \
    org.opencontainers.image.source="https://github.com/${BUILD_REPOSITORY}" \
    org.opencontainers.image.version="${BUILD_VERSION}"
