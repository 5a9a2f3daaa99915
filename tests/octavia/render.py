"""Renders haproxy.cfg with Octavia's own templater, as the controller does for an amphora.

    render.py < ASKED > haproxy.cfg

ASKED is JSON: {"id", "topology", "vip", "additional_vips", "amphora", "amphorae": [{"id", "address"}],
"haproxy": "MAJOR.MINOR", "details", "listeners": [{"id", "protocol", "port", "certificate", "members":
[{"id", "address", "port"}], "monitor", "redirect"}]}. A listener with members has a pool of them, with a health
monitor of the type "monitor"; "redirect" is a path prefix that is sent elsewhere by a layer 7 policy.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

from octavia.common import config, constants, data_models  # noqa: E402
from octavia.common.jinja.haproxy.combined_listeners import jinja_cfg  # noqa: E402


def monitor(kind, pool):
    return data_models.HealthMonitor(
        id="monitor-" + pool, type=kind, delay=5, timeout=3, fall_threshold=3, rise_threshold=2,
        http_method="GET", url_path="/", expected_codes="200", enabled=True,
        provisioning_status=constants.ACTIVE,
    )


def pool(asked):
    protocol = {"TERMINATED_HTTPS": "HTTP", "HTTPS": "TCP"}.get(asked["protocol"], asked["protocol"])
    name = "pool-" + asked["id"]
    members = [
        data_models.Member(
            id=member["id"], ip_address=member["address"], protocol_port=member["port"], weight=1, enabled=True,
            backup=False, provisioning_status=constants.ACTIVE, operating_status=constants.ONLINE,
        )
        for member in asked["members"]
    ]
    persistence = data_models.SessionPersistence(pool_id=name, type=constants.SESSION_PERSISTENCE_SOURCE_IP)
    return data_models.Pool(
        id=name, protocol=protocol, lb_algorithm=constants.LB_ALGORITHM_ROUND_ROBIN, members=members, enabled=True,
        health_monitor=monitor(asked["monitor"], name) if asked.get("monitor") else None,
        session_persistence=persistence if asked.get("persistence") else None, l7policies=[], listeners=[],
        provisioning_status=constants.ACTIVE, operating_status=constants.ONLINE, tls_enabled=False,
    )


def policy(asked):
    rule = data_models.L7Rule(
        id="rule-" + asked["id"], type=constants.L7RULE_TYPE_PATH, value=asked["redirect"], enabled=True,
        compare_type=constants.L7RULE_COMPARE_TYPE_STARTS_WITH, provisioning_status=constants.ACTIVE, invert=False,
    )
    return data_models.L7Policy(
        id="policy-" + asked["id"], action=constants.L7POLICY_ACTION_REDIRECT_TO_URL, position=1, enabled=True,
        redirect_url="http://www.example.com/", redirect_http_code=302, l7rules=[rule],
        provisioning_status=constants.ACTIVE,
    )


def listener(asked, lb):
    pools = [pool(asked)] if asked.get("members") else []
    made = data_models.Listener(
        id=asked["id"], protocol=asked["protocol"], protocol_port=asked["port"], load_balancer=lb, enabled=True,
        load_balancer_id=lb.id, pools=pools, default_pool=pools[0] if pools else None, peer_port=1025,
        tls_certificate_id="certificate" if asked.get("certificate") else None, insert_headers={},
        tls_ciphers=None, tls_versions=["TLSv1.2", "TLSv1.3"] if asked.get("certificate") else None,
        alpn_protocols=["http/1.1"] if asked.get("certificate") else None, allowed_cidrs=[], sni_containers=[],
        l7policies=[policy(asked)] if asked.get("redirect") else [], provisioning_status=constants.ACTIVE,
        # What a listener gets by default, 50,000, takes more open files than a test machine may allow.
        connection_limit=asked.get("connection_limit", 1000),
    )
    if asked.get("certificate"):
        made.tls_ciphers = config.cfg.CONF.api_settings.default_listener_ciphers
    return made


def main():
    config.cfg.CONF(args=[], project="octavia", default_config_files=[])
    asked = json.load(sys.stdin)
    amphorae = [
        data_models.Amphora(
            id=a["id"], vrrp_ip=a["address"], lb_network_ip=a["address"], role=constants.ROLE_MASTER,
            status=constants.AMPHORA_ALLOCATED, vrrp_interface="eth1", vrrp_priority=100,
        )
        for a in asked["amphorae"]
    ]
    lb = data_models.LoadBalancer(
        id=asked["id"], topology=asked["topology"], enabled=True, project_id="project", amphorae=amphorae,
        vip=data_models.Vip(ip_address=asked["vip"]),
        additional_vips=[data_models.AdditionalVip(ip_address=ip) for ip in asked["additional_vips"]],
    )
    listeners = [listener(one, lb) for one in asked["listeners"]]
    lb.listeners = listeners
    host = next(a for a in amphorae if a.id == asked["amphora"])
    templater = jinja_cfg.JinjaTemplater(base_amp_path="/var/lib/octavia", base_crt_dir="/var/lib/octavia/certs")
    text = templater.build_config(
        host_amphora=host, listeners=listeners, tls_certs={}, haproxy_versions=asked["haproxy"].split("."),
        amp_details=asked["details"],
    )
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
