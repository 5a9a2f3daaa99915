"""What Octavia hands to Nova for a new amphora, by its own task: CertComputeCreate, with a compute driver that notes.

    boot.py < ASKED

ASKED is JSON: {"amphora_id", "topology", "server_pem", "client_ca", "controllers", "heartbeat_key", "user_data", "debug"}: the
certificate with its key, the file of the CA that controllers' certificates are of, the health managers' ADDRESS:PORT,
and whether the files go the deprecated way, in the user data. Answers with JSON: {"name", "files", "user_data"}.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

from octavia.common import config, utils  # noqa: E402
from octavia.controller.worker.v2.tasks import compute_tasks  # noqa: E402
from oslo_log import log  # noqa: E402

CONF = config.cfg.CONF


class Noted:
    """In the place of Nova."""

    def build(self, **asked):
        self.asked = asked
        return "compute"


def main():
    asked = json.load(sys.stdin)
    log.register_options(CONF)
    CONF(args=[], project="octavia", default_config_files=[])
    for group, key, value in (
        ("controller_worker", "compute_driver", "compute_noop_driver"),
        ("controller_worker", "client_ca", asked["client_ca"]),
        ("controller_worker", "loadbalancer_topology", asked["topology"]),
        ("controller_worker", "user_data_config_drive", asked["user_data"]),
        ("controller_worker", "amp_boot_network_list", []),
        ("health_manager", "controller_ip_port_list", asked["controllers"]),
        ("health_manager", "heartbeat_key", asked["heartbeat_key"]),
        ("health_manager", "heartbeat_interval", 10),
    ):
        CONF.set_override(key, value, group=group)
    CONF.set_override("debug", asked["debug"])
    task = compute_tasks.CertComputeCreate()
    task.compute = Noted()
    server_pem = utils.get_server_certs_key_passphrases_fernet().encrypt(asked["server_pem"].encode()).decode()
    task.execute(asked["amphora_id"], server_pem, None)
    made = task.compute.asked
    answer = {"name": made["name"], "files": made["config_drive_files"] or {}, "user_data": made["user_data"]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
