"""A load balancer in Octavia's own data models, as its database would have it.

What is asked for is JSON: {"id", "topology", "vnic_type", "vip": VIP, "additional_vips": [VIP], "amphorae": [{"id",
"lb_network_ip", "vrrp_ip", "mac_address", "priority", "member_port": {"mac_address", "fixed_ips": [VIP]}}], "members":
[address]}, where VIP is {"ip_address", "cidr", "gateway_ip"}; a listener is {"name", "protocol", "port", "persistence",
"lvs_members"}, the last but one a type of session persistence, or absent; the last the addresses of what a listener for
LVS has a pool of, or absent.
"""

import uuid

from octavia.common import constants, data_models, utils
from octavia.network import data_models as network_models

MTU = 1500
# What a listener gets by default, 50,000, takes more open files than a test machine may allow.
CONNECTION_LIMIT = 1000
PEER_PORT = 1025


def subnet(vip):
    return network_models.Subnet(
        id="subnet-" + vip["cidr"], cidr=vip["cidr"], gateway_ip=vip["gateway_ip"], host_routes=[]
    )


def port(name, mac_address, ips, vnic_type=constants.VNIC_TYPE_NORMAL):
    fixed = [network_models.FixedIP(ip_address=ip["ip_address"], subnet=subnet(ip)) for ip in ips]
    network = network_models.Network(id="network-" + name, mtu=MTU)
    return network_models.Port(
        id=name, mac_address=mac_address, fixed_ips=fixed, network=network, vnic_type=vnic_type
    )


def amphora(asked, lb):
    first = asked["priority"] == constants.ROLE_MASTER_PRIORITY
    standby = lb.topology == constants.TOPOLOGY_ACTIVE_STANDBY
    return data_models.Amphora(
        id=asked["id"],
        load_balancer=lb,
        load_balancer_id=lb.id,
        status=constants.AMPHORA_ALLOCATED,
        lb_network_ip=asked["lb_network_ip"],
        vrrp_ip=asked["vrrp_ip"],
        vrrp_port_id="vrrp-port-" + asked["id"],
        ha_ip=lb.vip.ip_address,
        role=(constants.ROLE_MASTER if first else constants.ROLE_BACKUP) if standby else constants.ROLE_STANDALONE,
        vrrp_id=1,
        vrrp_priority=asked["priority"],
    )


def load_balancer(asked):
    lb = data_models.LoadBalancer(
        id=asked["id"],
        project_id=uuid.uuid4().hex,
        enabled=True,
        topology=asked["topology"],
        vip=data_models.Vip(ip_address=asked["vip"]["ip_address"], vnic_type=asked["vnic_type"]),
        additional_vips=[data_models.AdditionalVip(ip_address=v["ip_address"]) for v in asked["additional_vips"]],
    )
    if lb.topology == constants.TOPOLOGY_ACTIVE_STANDBY:
        lb.vrrp_group = data_models.VRRPGroup(
            load_balancer_id=lb.id,
            vrrp_group_name=lb.id.replace("-", ""),
            vrrp_auth_type=constants.VRRP_AUTH_DEFAULT,
            vrrp_auth_pass=uuid.uuid4().hex[:7],
            advert_int=1,
        )
    lb.amphorae = [amphora(one, lb) for one in asked["amphorae"]]
    return lb


def pool(protocol, members, port=80):
    made = data_models.Pool(
        id=str(uuid.uuid4()),
        protocol=protocol,
        lb_algorithm=constants.LB_ALGORITHM_ROUND_ROBIN,
        enabled=True,
        provisioning_status=constants.ACTIVE,
        operating_status=constants.ONLINE,
        tls_enabled=False,
    )
    made.members = [
        data_models.Member(
            id=str(uuid.uuid4()),
            ip_address=address,
            protocol_port=port,
            weight=1,
            enabled=True,
            backup=False,
            provisioning_status=constants.ACTIVE,
            operating_status=constants.ONLINE,
        )
        for address in members
    ]
    monitors = {
        constants.PROTOCOL_HTTP: constants.HEALTH_MONITOR_HTTP,
        constants.PROTOCOL_UDP: constants.HEALTH_MONITOR_UDP_CONNECT,
    }
    if protocol in monitors:
        made.health_monitor = data_models.HealthMonitor(
            id=str(uuid.uuid4()),
            pool_id=made.id,
            type=monitors[protocol],
            delay=5,
            timeout=3,
            fall_threshold=3,
            rise_threshold=2,
            http_method="GET",
            url_path="/",
            expected_codes="200",
            enabled=True,
            provisioning_status=constants.ACTIVE,
        )
    return made


def listener(asked, lb, members, defaults):
    """A listener with a pool of its own; one for LVS only where asked: a virtual service takes IPVS, which a kernel may
    lack."""
    made = data_models.Listener(
        id=str(uuid.uuid4()),
        name=asked["name"],
        project_id=lb.project_id,
        load_balancer=lb,
        load_balancer_id=lb.id,
        protocol=asked["protocol"],
        protocol_port=asked["port"],
        enabled=True,
        provisioning_status=constants.ACTIVE,
        connection_limit=CONNECTION_LIMIT,
        peer_port=PEER_PORT,
        timeout_client_data=50000,
        timeout_member_connect=5000,
        timeout_member_data=50000,
        timeout_tcp_inspect=0,
    )
    if asked["protocol"] in constants.LVS_PROTOCOLS:
        if asked.get("lvs_members"):
            made.default_pool = pool(asked["protocol"], asked["lvs_members"], asked["port"])
            made.pools = [made.default_pool]
            made.default_pool.listeners = [made]
        return made
    tls = asked["protocol"] == constants.PROTOCOL_TERMINATED_HTTPS
    made.default_pool = pool(constants.PROTOCOL_HTTP if tls else asked["protocol"], members)
    if asked.get("persistence"):
        made.default_pool.session_persistence = data_models.SessionPersistence(
            pool_id=made.default_pool.id, type=asked["persistence"]
        )
    made.pools = [made.default_pool]
    made.default_pool.listeners = [made]
    if tls:
        made.tls_ciphers = defaults.default_listener_ciphers
        made.tls_versions = defaults.default_listener_tls_versions
        made.alpn_protocols = defaults.default_listener_alpn_protocols
    return made


def firewall_rules(lb, this):
    """What the controller has the amphora of a SR-IOV VIP let in: see its GetAmphoraFirewallRules."""
    rules = [
        utils.map_protocol_to_nftable_protocol({"protocol": one.protocol, "cidr": None, "port": one.protocol_port})
        for one in lb.listeners
    ]
    if lb.topology == constants.TOPOLOGY_ACTIVE_STANDBY:
        for other in lb.amphorae:
            if other.id != this.id:
                bits = 128 if ":" in other.vrrp_ip else 32
                rules.append({"protocol": constants.VRRP, "cidr": f"{other.vrrp_ip}/{bits}", "port": 112})
    return rules
