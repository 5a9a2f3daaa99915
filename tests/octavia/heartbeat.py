"""Octavia's side of heartbeats, and what Octavia's own agent would send.

    heartbeat.py WHAT ASKED ANSWERED

ASKED and ANSWERED are JSON files. WHAT is one of
receive    {"ip", "port", "key", "count"}: the health manager's UDPStatusGetter takes so many heartbeats; answers
           with the list of them. "ready" on standard output says that it listens.
message    {"base_path", "amphora_id", "counters"}: what build_stats_message says of the load balancers below
           base_path, with those counters reported before; answers with the message.
envelopes  {"key", "wrapped": [hex], "objects": [...]}: unwraps the ones, wraps the others; answers with
           {"objects": [...], "wrapped": [hex]}.
"""

import json
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

from octavia.common import config  # noqa: E402

CONF = config.cfg.CONF


def receive(asked):
    from octavia.amphorae.drivers.health import heartbeat_udp

    for option, value in (("bind_ip", asked["ip"]), ("bind_port", asked["port"]), ("heartbeat_key", asked["key"])):
        CONF.set_override(option, value, group="health_manager")
    getter = heartbeat_udp.UDPStatusGetter()
    getter.sock.settimeout(120)
    print("ready", flush=True)
    received = []
    for _ in range(asked["count"]):
        message, source = getter.dorecv()
        message.pop("recv_time")
        received.append({"message": message, "from": source})
    return received


def message(asked):
    from octavia.amphorae.backends.health_daemon import health_daemon

    CONF.set_override("base_path", asked["base_path"], group="haproxy_amphora")
    CONF.set_override("amphora_id", asked["amphora_id"], group="amphora_agent")
    health_daemon.COUNTERS = asked["counters"]
    with tempfile.TemporaryFile("w+") as file:  # the agent's own file is the agent's
        health_daemon.COUNTERS_FILE = file
        return health_daemon.build_stats_message()


def envelopes(asked):
    from octavia.amphorae.backends.health_daemon import status_message

    unwrapped = [status_message.unwrap_envelope(bytes.fromhex(w), asked["key"]) for w in asked["wrapped"]]
    wrapped = [status_message.wrap_envelope(o, asked["key"]).hex() for o in asked["objects"]]
    return {"objects": unwrapped, "wrapped": wrapped}


def main():
    what, asked, answered = sys.argv[1:]
    CONF(args=[], project="octavia", default_config_files=[])
    with open(asked, encoding="utf-8") as file:
        answer = {"receive": receive, "message": message, "envelopes": envelopes}[what](json.load(file))
    with open(answered, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
