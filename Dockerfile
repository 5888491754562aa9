# One image for every role: `docker run nearside edge …`.
# Releases name both bases by digest (SECURITY.md): --build-arg RUST_IMAGE=rust:1-slim-bookworm@sha256:…
ARG RUST_IMAGE=rust:1-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${RUST_IMAGE} AS build
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends cmake make g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin nearside && strip -o /nearside target/release/nearside

FROM ${BASE_IMAGE}
# The certificates are for origins over https.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home nearside \
 && install -d -o nearside /var/lib/nearside
COPY --from=build /nearside /usr/local/bin/nearside
COPY config/reference /etc/nearside/reference
USER 10001
EXPOSE 8080 7080
# For nodes whose admin listener, and control processes whose listener, is on the default port.
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s \
    CMD ["nearside", "status", "--node", "127.0.0.1:7080"]
ENTRYPOINT ["nearside"]
CMD ["--help"]
