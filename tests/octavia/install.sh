#!/bin/sh
# Makes a Python environment with the real Octavia in it: the controller's own client is what the tests call
# the agent with, and its amphora agent is what ours is compared to.
#
#     tests/octavia/install.sh [FOLDER]      (default build/octavia)
#
# Prints the version installed. A second run prints it again and does nothing else; a change of constraints.txt
# makes a new environment. Exits 1 with a reason where the packages cannot be had.
set -eu

octavia=19.0.0
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/octavia}
mark=$folder/INSTALLED
wanted="octavia $octavia $(sha256sum <"$here/constraints.txt" | cut -c1-16)"

is_installed() { [ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; }

fail() {
    echo "octavia: $1" >&2
    exit 1
}

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9 # another run may be at it
if is_installed; then
    echo "octavia: $octavia is in $folder"
    exit 0
fi

echo "octavia: installing octavia $octavia and what it needs into $folder (about 280 MB, a minute or two)"
rm -rf "$folder"
/usr/bin/python3 -m venv "$folder" || fail "python3 makes no environment; is python3-venv installed?"
# The wheel does not name pyroute2, which its agent's code imports.
"$folder/bin/pip" install --quiet --disable-pip-version-check --constraint "$here/constraints.txt" \
    "octavia==$octavia" pyroute2 >"$folder/install.log" 2>&1 || fail "pip: $(tail -n 1 "$folder/install.log")"
"$folder/bin/python" -W ignore -c 'import octavia.amphorae.drivers.haproxy.rest_api_driver, octavia.cmd.agent' ||
    fail "the driver and the agent cannot be imported"
echo "$wanted" >"$mark" # last: only a complete environment has it
echo "octavia: $octavia is in $folder"
