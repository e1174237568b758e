#!/usr/bin/env bash
# How fast `eager serve` answers on loopback: 1 and 64 connections, in batches and one query at a time.
#   scripts/bench-serve.sh BUNDLE [SECONDS]
# Needs wrk, curl and target/release/eager (or another one in EAGER). Histories are drawn from the bundle's own items.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
bundle="${1:?usage: bench-serve.sh BUNDLE [SECONDS]}"
seconds="${2:-30}"
eager="${EAGER:-$here/../target/release/eager}"
port="${PORT:-18080}"
url="http://127.0.0.1:$port"
work="$(mktemp -d)"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
sed -n 's/.*"id":"\([^"]*\)".*/\1/p' "$bundle/items.jsonl" >"$work/ids"

metric() { curl -sf "$url/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }

echo "| max-batch | connections | requests/s | p50 ms | p99 ms | requests | errors | queries a pass | memory MB |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
for batch in 16 1; do
    "$eager" -q serve "$bundle" --bind "127.0.0.1:$port" --max-batch "$batch" &
    server=$!
    until curl -sf "$url/readyz" >/dev/null; do sleep 0.1; done
    IDS="$work/ids" wrk -t1 -c4 -d3s -s "$here/bench-serve.lua" "$url/v1/recommend" >/dev/null
    for connections in 1 64; do
        queries=$(metric eager_batch_queries_sum) passes=$(metric eager_batch_queries_count)
        figures=$(IDS="$work/ids" wrk -t1 -c"$connections" -d"${seconds}s" --timeout 30s \
            -s "$here/bench-serve.lua" "$url/v1/recommend" | sed -n 's/^figures //p')
        per=$(awk -v q="$(metric eager_batch_queries_sum)" -v p="$(metric eager_batch_queries_count)" -v q0="$queries" \
            -v p0="$passes" 'BEGIN { printf "%.1f", (q - q0) / (p - p0) }')
        memory=$(metric eager_resident_memory_bytes | awk '{ printf "%.0f", $1 / 1e6 }')
        echo "| $batch | $connections | ${figures// / | } | $per | $memory |"
    done
    kill "$server"
    wait "$server" || true
    server=
done
