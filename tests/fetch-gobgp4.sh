#!/bin/sh
# Unpacks Debian unstable's gobgpd (4.x) and its .proto files beside, so that the tests meet both
# API generations. Nothing is installed: apt runs on its own lists, cache and source, taken from
# the mirror this machine already uses, and checks signatures as ever.
#
#     tests/fetch-gobgp4.sh [FOLDER]      (default build/gobgp4)
#
# Prints the version unpacked. A second run prints it again and does nothing else; remove the
# folder to fetch anew. Exits 1 with a reason where the packages cannot be had.
set -eu

folder=${1:-$(dirname "$0")/../build/gobgp4}
version=$folder/VERSION

if [ -s "$version" ]; then
    cat "$version"
    exit 0
fi

fail() {
    echo "fetch-gobgp4: $1" >&2
    exit 1
}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
version=$folder/VERSION

exec 9>"$folder/.lock"
flock 9
if [ -s "$version" ]; then # another run was faster
    cat "$version"
    exit 0
fi

# apt's own idea of where `main` of Debian is, whatever format its sources are written in.
mirror=$(apt-get indextargets --format '$(SITE)|$(ORIGIN)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F'|' '$2 == "Debian" && $3 == "main" { print $1; exit }')
if [ -z "$mirror" ]; then # no lists fetched yet, so no ORIGIN: read the sources themselves
    mirror=$(apt-get indextargets --format '$(SITE)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
        awk -F'|' '$3 == "main" && $2 !~ /security/ { print $1; exit }')
fi
[ -n "$mirror" ] || fail "this machine's apt names no Debian mirror"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "no $keyring"

own=$folder/apt
mkdir -p "$own/lists/partial" "$own/cache/archives/partial" "$own/parts"
: >"$own/status"
echo "deb [signed-by=$keyring] $mirror sid main" >"$own/sources.list"
cat >"$own/apt.conf" <<CONF
Dir::Etc::SourceList "$own/sources.list";
Dir::Etc::SourceParts "$own/parts";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$own/parts";
Dir::State "$own";
Dir::State::Lists "$own/lists";
Dir::State::status "$own/status";
Dir::Cache "$own/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
CONF

export APT_CONFIG="$own/apt.conf"
apt-get -qq update >"$own/log" 2>&1 || fail "apt cannot read suite sid: $(tail -n 1 "$own/log")"

fetch() { # name
    (cd "$own" && rm -f "$1"_*.deb && apt-get -qq download "$1" >>"$own/log" 2>&1) ||
        fail "apt cannot download $1: $(tail -n 1 "$own/log")"
    dpkg -x "$own/$1"_*.deb "$folder" || fail "$1 does not unpack"
}
fetch gobgpd
fetch golang-github-osrg-gobgp-dev

[ -x "$folder/usr/bin/gobgpd" ] || fail "the package holds no usr/bin/gobgpd"
"$folder/usr/bin/gobgpd" --version >"$own/version" 2>&1 || fail "does not run here: $(tail -n 1 "$own/version")"
grep -q '^gobgpd version 4\.' "$own/version" || fail "sid has $(cat "$own/version"), not 4.x"
mv "$own/version" "$version" # last: only a complete folder has it
rm -rf "$own"
cat "$version"
