"""Renders keepalived configurations with Octavia's own templaters, as the controller does before it uploads them.

    keepalived.py ASKED RENDERED

ASKED is a JSON list of what to render. {"vrrp": {"vip", "subnet": {"cidr", "gateway_ip"}, "additional": [{"ip_address", "subnet"}],
"amphorae": [{"vrrp_ip", "priority"}]}} gives one configuration for each amphora. {"lvs": {"listener_id", "vips",
"protocol", "port", "monitor", "monitor_values", "enabled", "members": [{"id", "ip_address", "port", "weight", "enabled"}]}} gives one;
without "members" the listener has no pool. The file RENDERED gets a JSON list of all the texts.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

from octavia.amphorae.drivers.keepalived.jinja import jinja_cfg as vrrp_jinja  # noqa: E402
from octavia.common import config, constants, data_models  # noqa: E402
from octavia.common.jinja.lvs import jinja_cfg as lvs_jinja  # noqa: E402

POOL = "b3a1d2c4-0000-4000-8000-00000000000f"


def vrrp(asked):
    group = data_models.VRRPGroup(
        vrrp_group_name="6f4b2f0e4a4e4c1b9f0a0d3b7a1c2d3e",
        vrrp_auth_type="PASS",
        vrrp_auth_pass="a1b2c3d",
        advert_int=1,
    )
    lb = data_models.LoadBalancer(vip=data_models.Vip(ip_address=asked["vip"]), vrrp_group=group)
    lb.amphorae = [
        data_models.Amphora(
            id=str(number),
            status=constants.AMPHORA_ALLOCATED,
            vrrp_ip=amphora["vrrp_ip"],
            vrrp_interface="eth1",
            vrrp_id=1,
            vrrp_priority=amphora["priority"],
        )
        for number, amphora in enumerate(asked["amphorae"])
    ]
    network = {
        constants.VIP_SUBNET: {"host_routes": [], **asked["subnet"]},
        "additional_vip_data": asked.get("additional", []),
    }
    templater = vrrp_jinja.KeepalivedJinjaTemplater()
    return [templater.build_keepalived_config(lb, amphora, network) for amphora in lb.amphorae]


def lvs(asked):
    vips = [data_models.Vip(ip_address=ip) for ip in asked["vips"]]
    lb = data_models.LoadBalancer(
        id="6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e", vip=vips[0], additional_vips=vips[1:], enabled=True
    )
    listener = data_models.Listener(
        id=asked["listener_id"],
        protocol=asked["protocol"],
        protocol_port=asked["port"],
        enabled=asked.get("enabled", True),
        load_balancer=lb,
        connection_limit=-1,
    )
    if "members" in asked:
        monitor = asked.get("monitor") and data_models.HealthMonitor(
            id="b3a1d2c4-0000-4000-8000-0000000000ff",
            type=asked["monitor"],
            **{
                "delay": 2,
                "timeout": 2,
                "fall_threshold": 2,
                "rise_threshold": 2,
                "enabled": True,
                "url_path": "/",
                "http_method": "GET",
                "expected_codes": "200",
                **asked.get("monitor_values", {}),
            },
        )
        listener.default_pool = data_models.Pool(
            id=POOL,
            protocol=asked["protocol"],
            lb_algorithm=constants.LB_ALGORITHM_ROUND_ROBIN,
            enabled=True,
            provisioning_status=constants.ACTIVE,
            health_monitor=monitor or None,
            members=[
                data_models.Member(
                    id=member["id"],
                    ip_address=member["ip_address"],
                    protocol_port=member["port"],
                    weight=member.get("weight", 1),
                    enabled=member.get("enabled", True),
                    provisioning_status=constants.ACTIVE,
                    operating_status=constants.ONLINE,
                )
                for member in asked["members"]
            ],
        )
        listener.pools = [listener.default_pool]
    return [lvs_jinja.LvsJinjaTemplater(base_amp_path="/var/lib/octavia").build_config(listener)]


def main():
    config.cfg.CONF(args=[], project="octavia", default_config_files=[])
    texts = []
    for asked in json.loads(sys.argv[1]):
        texts += vrrp(asked["vrrp"]) if "vrrp" in asked else lvs(asked["lvs"])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(texts, file)


if __name__ == "__main__":
    main()
