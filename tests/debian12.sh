#!/bin/sh
# Makes a Debian 12 tree with systemd, dbus, gobgpd, haproxy and keepalived in it, which tests boot with systemd-nspawn.
#
#     tests/debian12.sh [FOLDER]      (default build/debian12)
#
# The tests never write to it, so a second run does nothing. A change of the list makes a new tree. Exits 1 with a
# reason where the packages cannot be had.
set -eu

packages=systemd,systemd-sysv,dbus,gobgpd,haproxy,keepalived,iproute2,procps,iputils-ping
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../build/debian12}
mark=$folder/INSTALLED
wanted="bookworm $packages"

fail() {
    echo "debian12: $1" >&2
    exit 1
}

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9 # another run may be at it
if [ "$(cat "$mark" 2>/dev/null)" = "$wanted" ]; then
    echo "debian12: it is in $folder"
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "not root"
command -v debootstrap >/dev/null || fail "debootstrap is not installed"

# This machine's own mirror, wherever apt keeps it.
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "bookworm" { print $1; exit }')
echo "debian12: installing $packages into $folder (about 300 MB, a minute)"
rm -rf "$folder"
debootstrap --variant=minbase --include="$packages" bookworm "$folder" ${mirror:+"$mirror"} >"$folder.log" 2>&1 ||
    fail "debootstrap: $(tail -n 1 "$folder.log")"
# Ours are the services here, and a fresh machine id would make systemd enable everything.
for unit in gobgpd haproxy keepalived; do
    rm -f "$folder/etc/systemd/system/multi-user.target.wants/$unit.service"
done
: >"$folder/etc/machine-id"
echo "$wanted" >"$mark" # last: only a complete tree has it
