#!/bin/sh
# Installs the Debian packages that the tests, the demo and the benches run for real, if any is missing.
# Their services are not started: the lab runs its own, in namespaces.
#
#     tests/install-packages.sh [image-test]      (with those that boot the image)
set -eu

packages="bird2 curl debootstrap dhcpcd-base dnsmasq-base frr gcc gobgpd golang-github-osrg-gobgp-dev haproxy iproute2 \
iputils-ping keepalived libc6-dev libfaketime nftables openssl procps prometheus python3-venv shellcheck \
systemd-container tcpdump"

# QEMU's parts are of one release: its system goes with the tools that are there, which may be of backports.
release=
if [ "${1:-}" = image-test ]; then
    packages="$packages dosfstools genisoimage mtools qemu-system-x86 qemu-utils"
    case $(dpkg-query -W -f='${Version}' qemu-utils 2>/dev/null) in
    *~bpo*) release=$(. /etc/os-release && echo "$VERSION_CODENAME")-backports ;;
    esac
fi

missing=
for package in $packages; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing$missing"
if [ "$(id -u)" != 0 ]; then
    echo "install-packages: not root; run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# Debian's way of saying that no service is to be started (policy-rc.d, invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
    trap 'rm -f "$policy"' EXIT INT TERM
fi
if [ -n "$release" ] && ! apt-get indextargets --format '$(RELEASE)' 2>/dev/null | grep -qx "$release"; then
    # From this machine's own mirror, for as long as it takes.
    mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk -v release="${release%-backports}" '$2 == release { print $1; exit }')
    source=/etc/apt/sources.list.d/image-test-backports.list
    trap 'rm -f "$source"; [ -z "${made:-}" ] || rm -f "$policy"' EXIT INT TERM
    echo "deb $mirror $release main" >"$source"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # one word a package
apt-get -qq install -y --no-install-recommends ${release:+-t "$release"} $missing >/dev/null
