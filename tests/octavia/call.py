"""Calls an agent with Octavia's own AmphoraAPIClient1_0, as the controller's tasks do.

    call.py ASKED ANSWERED

ASKED is a JSON file: {"amphora": {"id", "address", "port"}, "client_cert", "server_ca",
"calls": [{"method", "arguments"}]}, where a method is one of the client's and its arguments go by name.
ANSWERED gets a list with one object a call: "value", what the method returned, or "exception" with its class
and "text"; beside it "answers", every HTTP answer the client saw for it. A text that is uploaded is sent as
bytes.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import requests  # noqa: E402
from octavia.amphorae.drivers.haproxy import rest_api_driver  # noqa: E402
from octavia.common import config, data_models  # noqa: E402

UPLOADS = ("pem_file", "config", "agent_config")


def configure(asked):
    config.cfg.CONF(args=[], project="octavia", default_config_files=[])
    settings = {
        "client_cert": asked["client_cert"],
        "server_ca": asked["server_ca"],
        "bind_port": asked["amphora"]["port"],
        # The controller tries for ten minutes; here two attempts tell that it would.
        "connection_max_retries": 2,
        "connection_retry_interval": 1,
    }
    for key, value in settings.items():
        config.cfg.CONF.set_override(key, value, group="haproxy_amphora")


def plain(value):
    """What a method returned, as JSON can say it."""
    return {"status": value.status_code} if isinstance(value, requests.Response) else value


def call(amphora, method, arguments):
    # As in the controller: a client with connections of its own for every task, the API version asked first.
    client = rest_api_driver.AmphoraAPIClient1_0()
    answers = []

    def note(response, **_):
        answers.append(
            {
                "status": response.status_code,
                "content_type": response.headers.get("content-type", ""),
                "etag": response.headers.get("etag", ""),
                "body": response.text,
            }
        )

    try:
        version = client.get_api_version(amphora)
        amphora.api_version = version["api_version"]
        client.session.hooks["response"].append(note)
        if method == "get_api_version":
            return {"value": client.get_api_version(amphora), "answers": answers}
        arguments = {
            key: value.encode() if key in UPLOADS else value for key, value in arguments.items()
        }
        return {"value": plain(getattr(client, method)(amphora, **arguments)), "answers": answers}
    except Exception as error:  # every class is an answer here
        return {"exception": type(error).__name__, "text": str(error), "answers": answers}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    configure(asked)
    amphora = data_models.Amphora(id=asked["amphora"]["id"], lb_network_ip=asked["amphora"]["address"])
    answered = [call(amphora, c["method"], c.get("arguments", {})) for c in asked["calls"]]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(answered, file)


if __name__ == "__main__":
    main()
