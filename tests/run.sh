#!/bin/bash
# Runs all tests; those that fail are run once more, alone.
#
#     tests/run.sh [ARGUMENT OF cargo test...]
#
# Most tests are real routers with real timers beside each other on few cores, and a machine that stalls for a second
# can fail one. A test that passes alone is named as FLAKY, with the first failure's output above, and is a fault to
# mend; it does not fail the run. More than MOST of them, a test that fails again, or anything else that ends
# `cargo test` badly (a build, a test program that dies) does. All that was printed is in target/tests.log.
set -uo pipefail
MOST=3

log=${CARGO_TARGET_DIR:-target}/tests.log
mkdir -p "${log%/*}"
cargo test "$@" --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
[ "$status" = 0 ] && exit 0

# "PROGRAM TEST" of each failure: cargo names the program it runs, the program its failed tests.
failed=$(awk '
    $1 == "Running" { program = $2 == "unittests" ? "" : $2; sub(/^tests\//, "", program); sub(/(\/main)?\.rs$/, "", program) }
    $1 == "Doc-tests" { program = "" }
    $1 == "test" && $NF == "FAILED" { print (program == "" ? "?" : program), $2 }' "$log")
count=$(grep -c . <<<"$failed")
programs=$(grep -c '^error: test failed, to rerun' "$log")
with_failures=$(cut -d' ' -f1 <<<"$failed" | sort -u | grep -c .)
if [ "$count" = 0 ] || [ "$count" -gt "$MOST" ] || [ "$programs" != "$with_failures" ] || grep -q '^? ' <<<"$failed"; then
    exit "$status"
fi
flaky=
while read -r program name; do
    echo "once more, alone: $program: $name"
    RUST_TEST_THREADS=1 cargo test "$@" --test "$program" -- --exact "$name" || exit 1
    flaky+="FLAKY: $program: $name failed beside others and passed alone"$'\n'
done <<<"$failed"
echo
printf '%s' "$flaky"
