# SPDX-License-Identifier: Apache-2.0
# One image for every role: gingham-agent, gingham-controller, gingham-operator, gingham-install (the agent's init container) and
# gingham, the command for people.
#
#   docker build -t gingham .
#   buildah build --build-arg PROGRAMS=built -t gingham .          older ones do not follow the default of an ARG to its stage
#   npm run build:image && docker build --build-arg PROGRAMS=prebuilt -t gingham .    takes what this machine has built
#
# Reproducible: with the same base image, packages and SOURCE_DATE_EPOCH (buildah build --timestamp "$SOURCE_DATE_EPOCH"; buildx
# --output rewrite-timestamp=true) the layers have the same digests.

# Where the programs come from: a stage of this file.
ARG PROGRAMS=built

FROM docker.io/library/node:26-bookworm-slim AS built
WORKDIR /src
COPY package.json package-lock.json .npmrc .node-version tsconfig.json ./
COPY scripts scripts
RUN node scripts/setup.mjs build
COPY launcher launcher
COPY src src
RUN node_modules/.bin/node scripts/build.ts \
 && node_modules/.bin/node scripts/image/stage.ts \
 && mv dist/image /out \
 && strip -o /out/node node_modules/node-linux-*/bin/node

FROM scratch AS prebuilt
COPY dist/image /out
COPY node_modules/node-linux-*/bin/node /out/node

FROM ${PROGRAMS} AS programs

FROM docker.io/library/debian:bookworm-slim AS runtime
# The reference plugins run on the host: of their package only the files are needed, and not the iptables that it depends on.
RUN set -eu; export DEBIAN_FRONTEND=noninteractive; \
    apt-get update -q; \
    apt-get install -q -y --no-install-recommends ca-certificates conntrack libatomic1 libstdc++6 nftables; \
    mkdir -p /usr/lib/gingham/plugins /usr/share/gingham /tmp/plugins; \
    cd /tmp/plugins; \
    apt-get download -q containernetworking-plugins; \
    dpkg-deb --extract ./*.deb .; \
    for name in loopback portmap bandwidth tuning host-local; do mv "usr/lib/cni/$name" /usr/lib/gingham/plugins/; done; \
    { dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n'; \
      dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' ./*.deb; } | sort > /usr/share/gingham/packages; \
    cd /; \
    rm -rf /tmp/plugins /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/cache/debconf/*-old \
      /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/log/apt /var/log/dpkg.log /var/log/alternatives.log; \
    for role in agent controller operator install; do ln -s gingham "/usr/bin/gingham-$role"; done; \
    ln -s gingham /usr/bin/kubectl-gingham

FROM runtime AS sbom
COPY --from=programs /out/ /out/
COPY package.json scripts/image/sbom.ts /tmp/sbom/
RUN /out/node /tmp/sbom/sbom.ts /tmp/sbom/package.json /out/third-party.json /usr/share/gingham/packages > /sbom.cdx.json

FROM runtime
COPY --from=programs --chmod=0755 /out/node /usr/bin/node
COPY --from=programs --chmod=0644 /out/programs/*.mjs /usr/lib/gingham/
COPY --from=programs --chmod=0755 /out/programs/gingham /usr/lib/gingham/gingham
COPY --from=sbom --chmod=0644 /sbom.cdx.json /usr/share/gingham/sbom.cdx.json
COPY --from=programs --chmod=0644 /out/THIRD-PARTY-NOTICES /usr/share/gingham/THIRD-PARTY-NOTICES
COPY --chmod=0644 LICENSE /usr/share/gingham/LICENSE
COPY --chmod=0755 scripts/image/gingham /usr/bin/gingham

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Gingham" \
      org.opencontainers.image.description="A Calico-style container network for Kubernetes and plain containerd" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Agent and installer are run as root by their pod; whatever else is started of this image is not.
USER 65532:65532
CMD ["gingham", "--help"]
