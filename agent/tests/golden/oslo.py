#!/usr/bin/env python3
"""Asks oslo.config what it makes of our inputs and writes oslo.json.

    python3 -m venv VENV && VENV/bin/pip install oslo.config && VENV/bin/python oslo.py > oslo.json
"""
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version

from oslo_config import cfg

SYNTAX = [
    "", "\n\n", "# only a comment\n", "[a]\n", "[a]", "[a]\nk = v\n", "[a]\nk=v\nk=w\n", "[a]\nk=1\n[b]\nk=2\n[a]\nj=3\n",
    "[a]\nk: v\n", "[a]\nk: a=b\nj = a:b\n", "[a]\nk=\n", "[a]\nk\n", "[a]\n=v\n", "[a]\n: v\n", "k = v\n", "[]\n", "[a\n",
    "[a] # x\n", "[a]]\nk=v\n", "[ a ]\nk=v\n", " [a]\n", "[a]\n k=v\n", "[a]\nk=v\n w\n\tx\n", "[a]\nk=v\n\n w\n",
    "[a]\nk=v\n# c\n w\n", "[a]\nk=v\n # c\n ; d\n", "[a]\nk = v ; not a comment # nor this\n", ";c\n[a]\n#d\nk=v\n",
    "[a]\nk=\n  one\n  two\n", "[a]\nk=v\n   \n w\n", "[a]\nk=\"v\"\n", "[a]\nk='v'\n", "[a]\nk=\"v'\n", "[a]\nk=\"\n", "[a]\nk=\"\"\n",
    "[a]\nk=\"'v'\"\n", "[a]\nk=\" v \"\n", "[a]\nk=\"v\" x\n", "[a]\nk=\"v\" \"w\"\n", "[a]\nk=\"v\"\n \"w\"\n", "[a]\r\nk=v\r\n w\r\n",
    "[a]\rk=v\rj=w\r", "[a]\n\rk=v\r\r\n", "[a]\nk=v\x0b\x0c\n", "[a]\nk=a\x0bb\n", "[a]\nk=v\x1c\x1d\x1e\x1f\n", "[a]\nk=v\x85\n",
    "[a]\nk\u00a0=\u00a0v\u2003\n", "[a]\n\u00a0k=v\n", "[a]\n\x0bk=v\n", "[A]\nk=1\n[a]\nk=2\n", "[DEFAULT]\nk=1\n[default]\nk=2\n",
    "[a]\nK=1\nk=2\n", "[a]\nk == v\n", "[a]\nk=v\u2028w\n", "[a]\nk=v\x00w\n", "[a]\n a\nk\n  b\n", "[bgp_peer:tor-a]\npeer_ip = 192.0.2.1\n",
    "\ufeff[a]\nk=v\n", "\ufeff# c\n[a]\n", "[a]\nk=[1]\n[x]=2\n", "[a]\n[b]\nk=v", "[a]\nk=v\\\nj=w\n", "[a]\n\"k\" = v\n", "[a]\nk=a\n\x0b b\n",
]

OPTIONS = [
    (None, cfg.BoolOpt("debug", default=False)),
    (None, cfg.StrOpt("syslog_log_facility", default="LOG_USER")),
    ("haproxy_amphora", cfg.StrOpt("base_path", default="/var/lib/octavia")),
    ("haproxy_amphora", cfg.StrOpt("base_cert_dir", default="/var/lib/octavia/certs")),
    ("haproxy_amphora", cfg.PortOpt("bind_port", default=9443)),
    ("health_manager", cfg.ListOpt("controller_ip_port_list", default=[])),
    ("health_manager", cfg.IntOpt("heartbeat_interval", default=10)),
    ("health_manager", cfg.StrOpt("heartbeat_key")),
    ("amphora_agent", cfg.StrOpt("agent_server_ca", default="/etc/octavia/certs/client_ca.pem")),
    ("amphora_agent", cfg.StrOpt("agent_server_network_dir")),
    ("amphora_agent", cfg.StrOpt("amphora_id")),
]

H = "[health_manager]\n"
A = "[amphora_agent]\n"
VALUES = [
    "[DEFAULT]\ndebug = %s\n" % word
    for word in ("True", "TRUE", "1", "on", "yes", "False", "0", "oFf", "no", "maybe", "", "2", " true ")
] + [
    "[haproxy_amphora]\nbind_port = %s\n" % word
    for word in ("1", "007", "+5", "-1", "65535", "65536", "1_0", "_1", "1__0", "1_", "+_1", "0x10", "1.0", "", "ten", "\"80\"", "8 0")
] + [
    H + "controller_ip_port_list = %s\n" % word
    for word in ("", "a:1", "a:1, b:2", " a:1 ,b:2 , ", ",a:1", "a,,b", "a,,", "[::1]:5, [2001:db8::1]:6", "\"a,b\",c", "a\n  , b\n  , c", "a b,c")
] + [
    H + "heartbeat_key = %s\n" % word
    for word in ("plain", "a$$b", "a\\$b", "a\\\\$b", "a$1", "a$", "a$ b", "$$$$", "a${", "a${}", "a${ x }", "a$(x)", "$heartbeat_interval",
                 "${heartbeat_interval}s", "$heartbeat_intervals", "$heartbeat_interval.", "${heartbeat_interval}.", "$debug", "$nosuch",
                 "${nosuch.x}", "${DEFAULT.debug}", "${haproxy_amphora.bind_port}", "$haproxy_amphora.bind_port", "$heartbeat_key",
                 "${haproxy_amphora.base_path}/x", "$syslog_log_facility-${debug}", "${a-b}", "100%", "%(x)s", "\"$debug\"", "$\\$debug", "$$debug")
] + [
    A + "amphora_id = a-$agent_server_ca\nagent_server_ca = ${haproxy_amphora.base_cert_dir}/ca.pem\n[haproxy_amphora]\nbase_path = /srv\nbase_cert_dir = $base_path/certs\n",
    A + "amphora_id = $agent_server_ca\nagent_server_ca = $amphora_id\n",
    A + "amphora_id = <$agent_server_network_dir>\n",
    A + "amphora_id = $bind_port\n[haproxy_amphora]\nbind_port = 0_80\n",
    A + "amphora_id = ${haproxy_amphora.bind_port}\n[haproxy_amphora]\nbind_port = 0_80\n",
    A + "amphora_id = ${haproxy_amphora.bind_port}|\n[haproxy_amphora]\nbind_port =\n",
    A + "amphora_id = $debug\n[DEFAULT]\ndebug = on\n",
    "[Amphora_Agent]\namphora_id = 1\n[AMPHORA_AGENT]\namphora_id = 2\n",
    "[default]\ndebug = True\n",
    H + "heartbeat_interval = $nosuch\n",
    H + "heartbeat_interval = ${haproxy_amphora.bind_port}\n",
    H + "controller_ip_port_list = ${amphora_agent.amphora_id}:1, b:2\n[amphora_agent]\namphora_id = x\n",
]


def write(text):
    handle, path = tempfile.mkstemp(suffix=".conf")
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode())
    return path


def syntax(text):
    path = write(text)
    sections, normalized = {}, {}
    parser = cfg.ConfigParser(path, sections)
    parser._add_normalized(normalized)
    try:
        parser.parse()
    except cfg.ParseError as error:
        # Of an option before any section oslo.config names the line after it.
        return {"input": text, "error": None if "Section must be" in str(error) else error.lineno}
    finally:
        os.unlink(path)
    return {"input": text, "sections": normalized}


def values(text):
    path = write(text)
    conf = cfg.ConfigOpts()
    for group, option in OPTIONS:
        conf.register_opt(option, group=group)
    conf(["--config-file", path], project="x", default_config_dirs=[])
    os.unlink(path)
    answers = {}
    for group, option in OPTIONS:
        try:
            answer = {"value": conf[group][option.name] if group else conf[option.name]}
        except Exception:
            answer = {"error": True}
        if answer != {"value": option.default}:
            answers["%s.%s" % (group or "DEFAULT", option.name)] = answer
    return {"input": text, "answers": answers}


def order(flags):
    """Which file wins, for files f1, f2, directories d1, d2 and the default file and directory."""
    root = tempfile.mkdtemp()
    for name in ("agent.conf", "agent.conf.d/x.conf", "f1", "f2", "d1/b.conf", "d1/a.conf", "d2/a.conf", "d2/.z.conf", "d2/z.txt"):
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "w") as file:
            file.write("[amphora_agent]\namphora_id = %s\n" % name)
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt("amphora_id"), group="amphora_agent")
    args = []
    for flag in flags:
        args += ["--config-file" if flag.startswith("f") else "--config-dir", os.path.join(root, flag)]
    conf(args, project="x", default_config_files=[os.path.join(root, "agent.conf")], default_config_dirs=[os.path.join(root, "agent.conf.d")])
    return {"flags": flags, "wins": conf.amphora_agent.amphora_id}


json.dump({
    "from": "oslo.config %s on Python %s" % (version("oslo.config"), platform.python_version()),
    "syntax": [syntax(text) for text in SYNTAX],
    "values": [values(text) for text in VALUES],
    "order": [order(flags) for flags in ([], ["f1"], ["d1"], ["f1", "f2"], ["f2", "f1"], ["f1", "d1"], ["d1", "f1"], ["d1", "d2"], ["d2", "f1", "d1"])],
}, sys.stdout, indent=1, sort_keys=True)
sys.stdout.write("\n")
