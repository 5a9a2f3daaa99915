"""Octavia's controller, as far as an amphora can tell: HaproxyAmphoraLoadBalancerDriver in the order of its flows.

    controller.py SETTINGS SOCKET

SETTINGS is a JSON file: {"port", "client_cert", "server_ca", "ca_key", "ca_key_passphrase", "storage"}, the last a
directory for Octavia's local certificate manager. On the UNIX socket SOCKET one client then asks, a line of JSON each,
{"do": NAME, ...}: a method of Controller below with its arguments by name. A line answers: {"value"}, or {"exception",
"text"}. It ends with its client.

Drivers, clients, templaters, certificate generator and manager are Octavia's own; instead of its database there are
its data models.
"""

import json
import os
import socket
import ssl
import sys
import traceback
import warnings

warnings.filterwarnings("ignore")

from octavia.amphorae.backends.agent import agent_jinja_cfg  # noqa: E402
from octavia.amphorae.drivers.haproxy import exceptions, rest_api_driver  # noqa: E402
from octavia.certificates.generator import local as local_generator  # noqa: E402
from octavia.common import config, constants, data_models  # noqa: E402
from oslo_log import log  # noqa: E402
from stevedore import driver as stevedore_driver  # noqa: E402

import models  # noqa: E402
import recorder  # noqa: E402

CONF = config.cfg.CONF
CLIENT = recorder.Recorder()
DRIVER = recorder.Recorder()
# stevedore finds the driver by its name in this module, and the driver its client.
rest_api_driver.AmphoraAPIClient1_0 = CLIENT.watch(rest_api_driver.AmphoraAPIClient1_0)
rest_api_driver.HaproxyAmphoraLoadBalancerDriver = DRIVER.watch(rest_api_driver.HaproxyAmphoraLoadBalancerDriver)


def driver():
    """A driver with connections of its own, as each of the controller's tasks makes one (BaseAmphoraTask)."""
    return stevedore_driver.DriverManager(
        namespace="octavia.amphora.drivers", name=CONF.controller_worker.amphora_driver, invoke_on_load=True
    ).driver


class Controller:
    def configure(self, client_cert, server_ca, ca_key=None, ca_key_passphrase=None):
        """Which certificates it shows, trusts and issues with; the CA of the amphorae's is the one it trusts."""
        for group, key, value in (
            ("haproxy_amphora", "client_cert", client_cert),
            ("haproxy_amphora", "server_ca", server_ca),
            ("certificates", "ca_certificate", server_ca),
            ("certificates", "ca_private_key", ca_key),
            ("certificates", "ca_private_key_passphrase", ca_key_passphrase),
        ):
            CONF.set_override(key, value, group=group)

    def be_patient(self):
        """As it is by default, for machines that may take a while: to boot, or to find a NIC that was plugged in."""
        CONF.set_override("connection_max_retries", 120, group="haproxy_amphora")
        CONF.set_override("connection_retry_interval", 5, group="haproxy_amphora")

    # The flows.

    def create_load_balancer(self, load_balancer):
        self.lb = models.load_balancer(load_balancer)
        self.asked = load_balancer
        for amphora, asked in self._amphorae():
            driver().get_info(amphora)
            driver().finalize_amphora(amphora)
            self._plug_vip(amphora, asked)
        if self.lb.vrrp_group:
            self.set_up_vrrp()
        return [amphora.vrrp_interface for amphora in self.lb.amphorae]

    def set_up_vrrp(self):
        """As after a failover too: each amphora is told of its peers and reloads, or starts, keepalived."""
        for amphora in self.lb.amphorae:
            amphora.vrrp_interface = driver().get_interface_from_ip(amphora, amphora.vrrp_ip)
            driver().update_vrrp_conf(self.lb, {amphora.id: self._network_config()}, amphora)
        self._set_rules()
        for amphora in self.lb.amphorae:
            driver().start_vrrp_service(amphora)

    def reload_vrrp(self):
        driver().reload_vrrp_service(self.lb)

    def stop_vrrp(self):
        driver().stop_vrrp_service(self.lb)

    def silence(self, amphora):
        driver().stop_vrrp_service_on_amphora(self.lb.amphorae[amphora])

    def create_listeners(self, listeners):
        """With the members' network, and the VIP's port again as if members were there too. Answers with their ids."""
        for asked in listeners:
            one = models.listener(asked, self.lb, self.asked["members"], CONF.api_settings)
            if one.protocol == constants.PROTOCOL_TERMINATED_HTTPS:
                self._certify(one)
            self.lb.listeners.append(one)
        for amphora, asked in self._amphorae():
            self._plug_networks(amphora, asked)
        self.update()
        return {one.name: one.id for one in self.lb.listeners}

    def update(self):
        driver().update(self.lb)
        self._set_rules()

    def start(self):
        driver().start(self.lb)

    def reload(self):
        for amphora in self.lb.amphorae:
            driver().reload(self.lb, amphora)

    def fail_over(self, amphora, replacement):
        """Another amphora, plugged and told everything, in the place of one whose machine is gone and gets no call; then
        the pair anew, the survivor too."""
        self.asked["amphorae"][amphora] = replacement
        new = self.lb.amphorae[amphora] = models.amphora(replacement, self.lb)
        driver().get_info(new)
        driver().finalize_amphora(new)
        self._plug_vip(new, replacement)
        self._plug_networks(new, replacement)
        self.update()
        self.set_up_vrrp()
        self.reload()

    def delete_listener(self, name):
        one = next(listener for listener in self.lb.listeners if listener.name == name)
        driver().delete(one)
        self.lb.listeners = [listener for listener in self.lb.listeners if listener.id != one.id]

    def rotate(self, amphora):
        """Housekeeping's GenerateServerPEMTask and AmphoraCertUpload; answers with what the agent then shows."""
        amphora = self.lb.amphorae[amphora]
        pem = self.issue(amphora.id)
        driver().upload_cert_amp(amphora, pem.encode())
        driver().get_info(amphora)
        shown = self._shown(amphora)
        return shown in pem

    def update_agent_config(self, debug=False):
        CONF.set_override("debug", debug)
        for amphora in self.lb.amphorae:
            text = agent_jinja_cfg.AgentJinjaTemplater().build_agent_config(amphora.id, self.lb.topology)
            driver().update_amphora_agent_config(amphora, text)

    def look(self, amphora):
        """What no flow of this kind asks, with the client's methods that its driver has no need of."""
        amphora = self.lb.amphorae[amphora]
        driver().get_diagnostics(amphora)
        driver().check(amphora)
        interface = driver().get_interface_from_ip(amphora, amphora.vrrp_ip)
        client = rest_api_driver.AmphoraAPIClient1_0()
        client.get_api_version(amphora)
        amphora.api_version = "1.0"
        assert client.head(amphora, "info").status_code == 200
        return {
            "interface": interface,
            "listeners": client.get_all_listeners(amphora),
            "details": client.get_details(amphora),
        }

    # One call.

    def issue(self, name):
        """A certificate by Octavia's generator, with its key."""
        made = local_generator.LocalCertGenerator.generate_cert_key_pair(
            cn=name, validity=CONF.certificates.cert_validity_time
        )
        return (made.certificate + made.private_key).decode()

    def call(self, who, amphora, method, arguments):
        """A method of a new "driver" or "client"; "bytes" among its arguments are sent as such."""
        amphora = data_models.Amphora(**amphora)
        if who == "client":
            subject = rest_api_driver.AmphoraAPIClient1_0()
            amphora.api_version = "1.0"
        else:
            subject = driver()
        arguments = {k: v["bytes"].encode() if isinstance(v, dict) and "bytes" in v else v for k, v in arguments.items()}
        value = getattr(subject, method)(amphora, **arguments)
        return value if isinstance(value, (dict, list, str, type(None))) else value.status_code

    def report(self):
        """How every public callable of client and driver did, and what the client may raise for an answer."""
        return {
            "client": CLIENT.report(rest_api_driver.AmphoraAPIClient1_0()),
            "driver": DRIVER.report(driver()),
            "exceptions": sorted(c.__name__ for c in exceptions.APIException.__subclasses__()),
        }

    # What they have in common.

    def _amphorae(self):
        return zip(self.lb.amphorae, self.asked["amphorae"])

    def _network_config(self):
        def subnet(vip):
            return models.subnet(vip).to_dict(recurse=True)

        additional = [{"ip_address": v["ip_address"], "subnet": subnet(v)} for v in self.asked["additional_vips"]]
        return {constants.VIP_SUBNET: subnet(self.asked["vip"]), "additional_vip_data": additional}

    def _plug_vip(self, amphora, asked):
        vip = self.asked["vip"]
        port = models.port(amphora.vrrp_port_id, asked["mac_address"], [{**vip, "ip_address": amphora.vrrp_ip}])
        additional = [
            models.network_models.AdditionalVipData(ip_address=v["ip_address"], subnet=models.subnet(v))
            for v in self.asked["additional_vips"]
        ]
        driver().post_vip_plug(amphora, self.lb, {}, port, models.subnet(vip), additional_vip_data=additional)

    def _plug_networks(self, amphora, asked):
        member, vip = asked["member_port"], self.asked["vip"]
        ports = [
            models.port("member-port", member["mac_address"], member["fixed_ips"]),
            models.port(
                amphora.vrrp_port_id,
                asked["mac_address"],
                [{**vip, "ip_address": amphora.vrrp_ip}],
                self.lb.vip.vnic_type,
            ),
        ]
        for port in ports:
            driver().post_network_plug(amphora, port, self._network_config())

    def _set_rules(self):
        if self.lb.vip.vnic_type == constants.VNIC_TYPE_DIRECT:
            for amphora in self.lb.amphorae:
                driver().set_interface_rules(amphora, amphora.vrrp_ip, models.firewall_rules(self.lb, amphora))

    def _certify(self, listener):
        """Its certificate, another by SNI, and a CA for clients' certificates, all in the certificate manager."""
        manager = driver().cert_manager

        def store(name):
            pem = self.issue(name)
            key = pem.index("-----BEGIN RSA PRIVATE KEY-----")
            return manager.store_cert(None, pem[:key], pem[key:])

        listener.tls_certificate_id = store("www.example.com")
        sni = data_models.SNI(listener_id=listener.id, tls_container_id=store("shop.example.com"), position=0)
        listener.sni_containers = [sni]
        with open(CONF.haproxy_amphora.server_ca, encoding="utf-8") as file:
            listener.client_ca_tls_certificate_id = manager.store_cert(None, file.read(), "")
        listener.client_authentication = constants.CLIENT_AUTH_OPTIONAL

    def _shown(self, amphora):
        """The certificate the agent shows, PEM."""
        context = ssl.create_default_context(cafile=CONF.haproxy_amphora.server_ca)
        context.load_cert_chain(CONF.haproxy_amphora.client_cert)
        with socket.create_connection((amphora.lb_network_ip, CONF.haproxy_amphora.bind_port)) as tcp:
            with context.wrap_socket(tcp, server_hostname=amphora.id) as tls:
                return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    log.register_options(CONF)
    CONF(args=[], project="octavia", default_config_files=[])
    os.makedirs(settings["storage"], mode=0o700, exist_ok=True)
    for group, key, value in (
        ("haproxy_amphora", "bind_port", settings["port"]),
        # The controller tries for ten minutes; here two attempts tell that it would.
        ("haproxy_amphora", "connection_max_retries", 2),
        ("haproxy_amphora", "connection_retry_interval", 1),
        # An operator's choice between quick and calm; by default five seconds.
        ("keepalived_vrrp", "vrrp_check_interval", 1),
        ("certificates", "cert_manager", "local_cert_manager"),
        ("certificates", "storage_path", settings["storage"]),
        ("health_manager", "heartbeat_key", "lab-heartbeat-key"),
    ):
        CONF.set_override(key, value, group=group)
    controller = Controller()
    controller.configure(**{k: settings[k] for k in ("client_cert", "server_ca", "ca_key", "ca_key_passphrase")})
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[2])
    listening.listen(1)
    client = listening.accept()[0].makefile("rw", encoding="utf-8")
    for line in client:
        asked = json.loads(line)
        try:
            answer = {"value": getattr(controller, asked.pop("do"))(**asked)}
        except Exception as error:  # every class is an answer here
            traceback.print_exc()
            answer = {"exception": type(error).__name__, "text": str(error)}
        client.write(json.dumps(answer) + "\n")
        client.flush()


if __name__ == "__main__":
    main()
