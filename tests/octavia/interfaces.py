"""Has Octavia's own code write the files of an amphora's interfaces, as its agent does when it is asked to plug.

    interfaces.py ASKED

ASKED is a JSON file: {"directory", "topology", "scripts", "interfaces": [{"kind": "vip" or "port", ...}]}, where the
rest of an interface are the arguments of the class by name. Without "scripts" the commands that an interface runs
besides are left out, for they need a kernel with IPVS.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

from octavia.amphorae.backends.agent.api_server import plug  # noqa: E402
from octavia.amphorae.backends.utils import interface_file  # noqa: E402
from octavia.common import config  # noqa: E402


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    config.cfg.CONF(args=[], project="octavia", default_config_files=[])
    config.cfg.CONF.set_override("agent_server_network_dir", asked["directory"], group="amphora_agent")
    render = plug.Plug(None)
    for arguments in asked["interfaces"]:
        kind = arguments.pop("kind")
        if kind == "vip":
            vips = arguments.pop("vips")
            vrrp = render.build_vrrp_info(
                arguments.pop("vrrp_ip"), vips[0]["subnet_cidr"], vips[0]["gateway"], vips[0]["host_routes"]
            )
            interface = interface_file.VIPInterfaceFile(
                vips=render.render_vips(vips), vrrp_info=vrrp, topology=asked["topology"], **arguments
            )
        else:
            interface = interface_file.PortInterfaceFile(**arguments)
        if not asked["scripts"]:
            interface.scripts = {"up": [], "down": []}
        interface.write()


if __name__ == "__main__":
    main()
