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
mapfile -t failed < <(awk '
    $1 == "Running" { program = $2 == "unittests" ? "" : $2; sub(/^tests\//, "", program); sub(/(\/main)?\.rs$/, "", program) }
    $1 == "Doc-tests" { program = "" }
    $1 == "test" && $NF == "FAILED" { print (program == "" ? "?" : program), $2 }' "$log")
# A program that came to its end says how many of its tests failed. One that cargo calls failed and that did not say so
# has died, and what it had yet to run nobody knows; so have tests whose names are not among those above.
read -r programs ended tests < <(awk '
    /^error: (test|doctest) failed, to rerun/ { programs++ }
    /^test result: FAILED/ { ended++; tests += $6 }
    END { print programs + 0, ended + 0, tests + 0 }' "$log")
if [ "$programs" != "$ended" ] || [ "$tests" != "${#failed[@]}" ]; then
    echo "not once more: of $programs failed programs $ended came to their end, with $tests failed tests; ${#failed[@]} have a name"
    exit "$status"
fi
if [ "$tests" = 0 ] || [ "$tests" -gt "$MOST" ] || [[ " ${failed[*]}" = *" ? "* ]]; then
    exit "$status"
fi
flaky=
for failure in "${failed[@]}"; do
    read -r program name <<<"$failure"
    echo "once more, alone: $program: $name" | tee -a "$log"
    again=$(mktemp)
    RUST_TEST_THREADS=1 cargo test "$@" --test "$program" -- --exact "$name" 2>&1 </dev/null | tee -a "$log" "$again"
    status=${PIPESTATUS[0]}
    ran=$(grep -c '^test result: ok. 1 passed' "$again")
    rm "$again"
    [ "$status" = 0 ] || exit "$status"
    [ "$ran" = 1 ] || { echo "$program: $name was not run" && exit 1; }
    flaky+="FLAKY: $program: $name failed beside others and passed alone"$'\n'
done
echo
printf '%s' "$flaky" | tee -a "$log"
