"""Renders many a haproxy.cfg with Octavia's own templater: every directive its templates have, in many combinations.

    corpus.py COUNT SEED > corpus.json

A list of {"lb", "vips", "text", "hostile"}. What tenants type is as odd as Octavia's API lets pass; where "hostile" is
not null it is a directive that such a text has brought along in a line of its own.
"""

import json
import random
import sys
import uuid
import warnings

warnings.filterwarnings("ignore")

from octavia.common import config, constants as c, data_models as dm  # noqa: E402
from octavia.common.jinja.haproxy.combined_listeners import jinja_cfg  # noqa: E402
from octavia_lib.common import constants as lib  # noqa: E402

CONF = config.cfg.CONF
DONE = {"provisioning_status": c.ACTIVE}
VALUES = ["/a", "/with space", "back\\slash", "^/api/v[0-9]+/.*$", "$HOME", "a%20b", "ü", "*.example.com", "a{2}", "(x|y)",
          "%[src]", '"quoted"', "a'b", "x#y", "#x", "-i", "a,b", "\\.(jpg|png)$"]
HEADERS = ["X-Id", "x_y.z", "X!$%&*+^`|~-1"]
URLS = ["http://www.example.com/", "https://[2001:db8::1]:8443/a?b=c&d=e", "http://h/it's", "http://h/a#b", "http://h/%41"]
VERSIONS = [lib.SSL_VERSION_3, lib.TLS_VERSION_1, lib.TLS_VERSION_1_1, lib.TLS_VERSION_1_2, lib.TLS_VERSION_1_3]
INSERTED = ["X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"] + [
    "X-SSL-" + one for one in ("Client-Verify", "Client-Has-Cert", "Client-DN", "Client-CN", "Issuer", "Client-SHA1",
                               "Client-Not-Before", "Client-Not-After")
]
# Octavia escapes blanks, and no tabs.
HOSTILE = ["program\tx", "lua-load\t/tmp/x.lua", "\texternal-check\tcommand\t/bin/sh", "\tchroot\t/tmp"]
CERTIFICATES = "/var/lib/octavia/certs"


class Maker:
    """Load balancers by dice, whose ids are fixed by the seed too."""

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def one(self, *of):
        return self.dice.choice(of)

    def some(self, of):
        return self.dice.sample(of, self.dice.randint(0, len(of)))

    def id(self):
        return str(uuid.UUID(int=self.dice.getrandbits(128), version=4))

    def monitor(self):
        kind = self.one(c.HEALTH_MONITOR_HTTP, c.HEALTH_MONITOR_HTTPS, c.HEALTH_MONITOR_PING, c.HEALTH_MONITOR_TCP,
                        c.HEALTH_MONITOR_TLS_HELLO)
        return dm.HealthMonitor(
            id=self.id(), type=kind, delay=5, timeout=3, fall_threshold=3, rise_threshold=2, enabled=self.one(True, True, False),
            http_method=self.one("GET", "HEAD", "OPTIONS"), url_path=self.one("/", "/healthz?deep=1"),
            expected_codes=self.one("200", "200,202", "200-204"), http_version=self.one(None, 1.0, 1.1),
            domain_name=self.one(None, "www.example.com"), **DONE)

    def member(self):
        monitored = self.one(True, False)
        return dm.Member(
            id=self.id(), ip_address=self.one("192.0.2.4", "2001:db8::5", "10.0.0.6"), protocol_port=self.one(80, 8443),
            weight=self.one(0, 1, 256), enabled=self.one(True, True, False), backup=self.one(False, False, True),
            monitor_address=self.one("192.0.2.9", "2001:db8::9") if monitored else None,
            monitor_port=8080 if monitored else None, operating_status=c.ONLINE, **DONE)

    def persistence(self, pool):
        kind = self.one(None, c.SESSION_PERSISTENCE_SOURCE_IP, c.SESSION_PERSISTENCE_APP_COOKIE,
                        c.SESSION_PERSISTENCE_HTTP_COOKIE)
        name = self.one("JSESSIONID", "a.b-c_d!") if kind == c.SESSION_PERSISTENCE_APP_COOKIE else None
        return dm.SessionPersistence(pool_id=pool, type=kind, cookie_name=name) if kind else None

    def pool(self, certs, lb):
        made = dm.Pool(
            id=self.id(), protocol=self.one(c.PROTOCOL_HTTP, c.PROTOCOL_TCP, c.PROTOCOL_HTTPS, c.PROTOCOL_PROXY, lib.PROTOCOL_PROXYV2),
            lb_algorithm=self.one(c.LB_ALGORITHM_SOURCE_IP, c.LB_ALGORITHM_ROUND_ROBIN, c.LB_ALGORITHM_LEAST_CONNECTIONS),
            enabled=True, operating_status=c.ONLINE, tls_enabled=self.one(True, False),
            members=[self.member() for _ in range(self.dice.randint(0, 3))],
            health_monitor=self.one(None, self.monitor(), self.monitor()), l7policies=[], listeners=[], **DONE)
        made.session_persistence = self.persistence(made.id)
        if made.tls_enabled:
            made.tls_ciphers = CONF.api_settings.default_pool_ciphers
            made.tls_versions = self.one(None, self.some(VERSIONS) or VERSIONS)
            made.alpn_protocols = self.one(None, ["h2", "http/1.1"])
            names = {"client_cert": "tls_certificate_id", "ca_cert": "ca_tls_certificate_id", "crl": "crl_container_id"}
            files = {}
            for name in self.some(list(names)):
                setattr(made, names[name], name)
                files[name] = f"{CERTIFICATES}/{lb.id}/{name}-{made.id}.pem"
            certs[made.id] = files
        return made

    def rule(self, value=None):
        kind = self.one(c.L7RULE_TYPE_HOST_NAME, c.L7RULE_TYPE_PATH, c.L7RULE_TYPE_FILE_TYPE, c.L7RULE_TYPE_HEADER,
                        c.L7RULE_TYPE_COOKIE, c.L7RULE_TYPE_SSL_CONN_HAS_CERT, c.L7RULE_TYPE_SSL_VERIFY_RESULT,
                        c.L7RULE_TYPE_SSL_DN_FIELD)
        compare = self.one(c.L7RULE_COMPARE_TYPE_REGEX, c.L7RULE_COMPARE_TYPE_STARTS_WITH, c.L7RULE_COMPARE_TYPE_ENDS_WITH,
                           c.L7RULE_COMPARE_TYPE_CONTAINS, c.L7RULE_COMPARE_TYPE_EQUAL_TO)
        if value:  # a regular expression may hold a line's end, for all that Octavia's API says
            kind, compare = c.L7RULE_TYPE_PATH, c.L7RULE_COMPARE_TYPE_REGEX
        key = "O" if kind == c.L7RULE_TYPE_SSL_DN_FIELD else self.one(*HEADERS)
        number = kind == c.L7RULE_TYPE_SSL_VERIFY_RESULT
        return dm.L7Rule(id=self.id(), type=kind, compare_type=compare, key=key, invert=self.one(True, False), enabled=True,
                         value=value or ("19" if number else self.one(*VALUES)), **DONE)

    def policy(self, pool, value=None):
        return dm.L7Policy(
            id=self.id(), position=1, enabled=True, redirect_pool=pool, redirect_url=self.one(*URLS),
            redirect_prefix=self.one(*URLS), redirect_http_code=self.one(None, 301, 302, 303, 307, 308),
            action=self.one(c.L7POLICY_ACTION_REJECT, c.L7POLICY_ACTION_REDIRECT_TO_URL, c.L7POLICY_ACTION_REDIRECT_TO_POOL,
                            c.L7POLICY_ACTION_REDIRECT_PREFIX),
            l7rules=[self.rule(value)] + [self.rule() for _ in range(self.dice.randint(0, 3))], **DONE)

    def listener(self, lb, certs, port, hostile):
        protocol = self.one(c.PROTOCOL_HTTP, c.PROTOCOL_TCP, c.PROTOCOL_HTTPS, c.PROTOCOL_TERMINATED_HTTPS,
                            lib.PROTOCOL_PROMETHEUS)
        pools = [self.pool(certs, lb) for _ in range(self.dice.randint(1, 2))]
        made = dm.Listener(
            id=self.id(), protocol=protocol, protocol_port=port, load_balancer=lb, load_balancer_id=lb.id, enabled=True,
            pools=pools, default_pool=self.one(None, pools[0]), peer_port=1025, allowed_cidrs=["192.0.2.0/24"],
            insert_headers={name: self.one("true", "True", "false") for name in self.some(INSERTED)}, sni_containers=[],
            connection_limit=self.one(-1, 1000), timeout_client_data=self.one(None, 50000), timeout_member_connect=5000,
            timeout_member_data=50000, timeout_tcp_inspect=self.one(0, 300), l7policies=[], **DONE)
        if protocol == c.PROTOCOL_TERMINATED_HTTPS:
            made.tls_certificate_id = "certificate"
            made.tls_ciphers = CONF.api_settings.default_listener_ciphers
            made.tls_versions = self.one(None, self.some(VERSIONS) or VERSIONS)
            made.alpn_protocols = self.one(None, ["h2", "http/1.1", "http/1.0"])
            made.client_authentication = self.one(c.CLIENT_AUTH_NONE, c.CLIENT_AUTH_OPTIONAL, c.CLIENT_AUTH_MANDATORY)
            made.client_ca_tls_certificate_id = self.one(None, "clients-ca")
            made.client_crl_container_id = self.one(None, "clients-crl")
            made.hsts_max_age = self.one(None, 0, 31536000)
            made.hsts_include_subdomains, made.hsts_preload = self.one(True, False), self.one(True, False)
            certs.update({"clients-ca": "ca.pem", "clients-crl": "crl.pem"})
        if protocol in (c.PROTOCOL_HTTP, c.PROTOCOL_TERMINATED_HTTPS):
            made.l7policies = [self.policy(pools[0]) for _ in range(self.dice.randint(0, 3))]
            if hostile:
                made.l7policies.append(self.policy(pools[0], "a\n" + hostile))
        return made

    def load_balancer(self):
        topology = self.one(c.TOPOLOGY_SINGLE, c.TOPOLOGY_ACTIVE_STANDBY)
        addresses = ["192.0.2.21", "2001:db8::22"][: 2 if topology == c.TOPOLOGY_ACTIVE_STANDBY else 1]
        amphorae = [
            dm.Amphora(id=self.id(), vrrp_ip=ip, lb_network_ip=ip, status=c.AMPHORA_ALLOCATED, vrrp_interface="eth1")
            for ip in addresses
        ]
        additional = self.some(["203.0.113.9", "2001:db8:100::9"])
        return dm.LoadBalancer(
            id=self.id(), topology=topology, enabled=True, project_id=uuid.UUID(int=self.dice.getrandbits(128)).hex,
            amphorae=amphorae, vip=dm.Vip(ip_address=self.one("203.0.113.7", "2001:db8:100::7")),
            additional_vips=[dm.AdditionalVip(ip_address=ip) for ip in additional])

    def rendered(self):
        lb, certs = self.load_balancer(), {}
        hostile = self.one(*[None] * 9, self.one(*HOSTILE))
        listeners = [self.listener(lb, certs, 80 + n, hostile) for n in range(self.dice.randint(1, 4))]
        lb.listeners = listeners
        details = {
            "active_tuned_profiles": self.one("", "virtual-guest optimize-serial-console amphora"), "cpu_count": self.one(1, 4),
            "memory": {"free": self.one(1000, 4000000), "buffers": 0, "cached": 0},
        }
        templater = jinja_cfg.JinjaTemplater(
            base_amp_path="/var/lib/octavia", base_crt_dir=CERTIFICATES, connection_logging=self.one(True, False))
        text = templater.build_config(
            host_amphora=lb.amphorae[0], listeners=listeners, tls_certs=certs, amp_details=details,
            haproxy_versions=self.one("1.5.18", "1.8.30", "2.2.9", "2.6.12", "3.0.11").split("."))
        vips = [lb.vip.ip_address] + [vip.ip_address for vip in lb.additional_vips]
        brought = hostile if hostile and f"\n{hostile}" in text else None
        return {"lb": lb.id, "vips": vips, "text": text, "hostile": brought}


def main():
    CONF(args=[], project="octavia", default_config_files=[])
    made = Maker(int(sys.argv[2]))
    json.dump([made.rendered() for _ in range(int(sys.argv[1]))], sys.stdout)


if __name__ == "__main__":
    main()
