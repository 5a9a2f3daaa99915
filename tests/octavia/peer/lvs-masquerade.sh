#!/bin/sh
# Stands where the stock image has its script of this name, which Octavia's Python package does not contain: the
# interface files of the Python agent call it by this path. It makes the tables of that script's nftables branch.
#
#     lvs-masquerade.sh add|delete ipv4|ipv6 NIC [sriov]
set -eu

nic=$3
case $2 in
ipv4) family=ip ;;
ipv6) family=ip6 ;;
*) exit 1 ;;
esac
table="$family octavia-$2"

case $1 in
add)
    {
        echo "table $table {"
        for protocol in udp sctp; do
            echo "chain $family-$protocol-masq { type nat hook postrouting priority 100;"
            echo "oifname \"$nic\" meta l4proto $protocol masquerade; }"
        done
        if [ "${4:-}" != sriov ]; then
            echo "chain prerouting { type filter hook prerouting priority -300; iifname \"$nic\" meta l4proto tcp notrack; }"
            echo "chain output { type filter hook output priority -300; oifname \"$nic\" meta l4proto tcp notrack; }"
        fi
        echo "}"
    } | nft -f -
    ;;
delete)
    for chain in "$family-udp-masq" "$family-sctp-masq" prerouting output; do
        nft "flush chain $table $chain; delete chain $table $chain" || true
    done
    ;;
*) exit 1 ;;
esac
