#!/bin/sh
# A PING health monitor: haproxy's external check calls it with the member's address in its environment.
case $HAPROXY_SERVER_ADDR in
    *:*) exec ping -6 -q -n -w 1 -c 1 "$HAPROXY_SERVER_ADDR" >/dev/null 2>&1 ;;
    *) exec ping -4 -q -n -w 1 -c 1 "$HAPROXY_SERVER_ADDR" >/dev/null 2>&1 ;;
esac
