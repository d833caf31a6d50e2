#!/usr/bin/env bash
# Compares the micro-benchmarks of the hot path at a commit with those of the working tree: both are built once, and run
# by turns, so that what else the machine does falls on both alike. benchstat prints what differs and how surely.
#
# Usage: bench/compare.sh REF COUNT BENCHSTAT, from the root of the repository.
set -euo pipefail

ref=$1 count=$2 benchstat=$3
# The hot path: the log, the store of messages, the state machine and its decoding, the way through the server.
benchmarks=(
  'cluster/raftlog ^BenchmarkAppend$/wal'
  'queue ^(BenchmarkAppendSettle|BenchmarkPut)$'
  'fsm ^(BenchmarkWholeJob|BenchmarkDecodeEntry)$'
  'server ^BenchmarkSend$'
)

case $count in '' | *[!0-9]*) echo "bench/compare.sh: COUNT is $count: want a number of runs" >&2; exit 2 ;; esac
[ "$count" -ge 6 ] || { echo "bench/compare.sh: COUNT is $count: benchstat wants 6 runs or more to be sure of anything" >&2; exit 2; }
commit=$(git rev-parse --verify --quiet "$ref^{commit}") || { echo "bench/compare.sh: REF is $ref, which is no commit of this repository" >&2; exit 2; }

mkdir -p bin/compare
out=$(cd bin/compare && pwd)
tree=$(mktemp -d "$out/ref-XXXXXX")
trap 'git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"; git worktree prune' EXIT
git worktree add --quiet --detach --force "$tree" "$commit"

build() { # side, root
  local line package
  for line in "${benchmarks[@]}"; do
    package=${line%% *}
    [ -d "$2/$package" ] || { echo "bench/compare.sh: $1 has no $package" >&2; continue; }
    (cd "$2" && go test -vet=off -c -o "$out/$1-${package//\//-}.test" "./$package")
  done
}
rm -f "$out"/*.test "$out"/*.txt
build old "$tree"
build new "$PWD"

run() { # side, root, package, benchmarks
  local binary=$out/$1-${3//\//-}.test
  [ -x "$binary" ] || return 0
  # As go test would say it: benchstat tells packages apart by it.
  echo "pkg: sluice/$3" >>"$out/$1.txt"
  (cd "$2/$3" && "$binary" -test.run '^$' -test.bench "$4" -test.benchtime "${BENCHTIME:-0.5s}") | grep '^Benchmark' >>"$out/$1.txt"
}
for turn in $(seq "$count"); do
  echo "turn $turn of $count" >&2
  for line in "${benchmarks[@]}"; do
    # Another side first each time.
    if [ $((turn % 2)) = 1 ]; then sides=(old new); else sides=(new old); fi
    for side in "${sides[@]}"; do
      root=$tree
      [ "$side" = new ] && root=$PWD
      run "$side" "$root" "${line%% *}" "${line#* }"
    done
  done
done
echo "old: $ref ($commit); new: the working tree ($(git rev-parse HEAD), $(git status --porcelain | wc -l) files changed)"
(cd "$out" && "$benchstat" old.txt new.txt)
