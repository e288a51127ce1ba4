#!/usr/bin/env bash
# Builds the distribution of builder.yaml and prints the binary's path as the last line of its output.
# With --path it only says where the binary is, or would be.
#
# The binary is kept by the hash of the manifest (comments aside), outside of every checkout: whoever has the same
# manifest has the same binary. It is built beside its place and moved there whole, so two builds at once disturb
# nobody.
set -euo pipefail

manifest=$(cd "$(dirname "$0")" && pwd)/builder.yaml
release=$(sed -n 's/^  version: \([0-9.]*\).*/\1/p' "$manifest")
name=$(sed -n 's/^  name: *//p' "$manifest")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aegis-otel/collector
place=$cache/$(sed -e 's/ *#.*//' -e '/^$/d' "$manifest" | sha256sum | cut -c1-16)
binary=$place/$name

if [ "${1:-}" != --path ] && [ ! -x "$binary" ]; then
    if ! command -v go >/dev/null; then
        echo "collector/build.sh: no \`go\` on the PATH; the collector is built with Go 1.26 or newer" \
            "(https://go.dev/dl), or use an otelcol-contrib $release with the configurations here" >&2
        exit 1
    fi
    mkdir -p "$place"
    work=$(mktemp -d "$place/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "building the collector ($release), once per manifest and machine; this takes some minutes" >&2
    GOBIN=$work/bin go install "go.opentelemetry.io/collector/cmd/builder@v$release" >&2
    (cd "$work" && CGO_ENABLED=0 bin/builder --config "$manifest") >&2
    mv "$work/build/$name" "$binary"
fi
echo "$binary"
