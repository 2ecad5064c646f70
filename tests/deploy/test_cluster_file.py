"""cluster/ray-cluster.yaml against Ray's own schema and this project's rules."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from tests.contracts.tree import ROOT, constraints, project

FILE = ROOT / "cluster" / "ray-cluster.yaml"

# What every Ray process of the cluster must see, and why it is there, is said in the file itself.
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}


def ray_schema() -> dict[str, Any]:
    """The schema that `ray up` applies, found without importing ray."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())


def faults(text: str) -> list[str]:
    """Everything that is wrong with a cluster file."""
    content = YAML(typ="safe", pure=True).load(text)
    # `ray up` itself takes min_workers from a local cluster's file before it applies the schema.
    checked = {key: value for key, value in content.items() if key != "min_workers"}
    found = [error.message for error in jsonschema.Draft7Validator(ray_schema()).iter_errors(checked)]
    if found:
        return found

    options = dict(re.findall(r"--env (\w+)=(\S+)", " ".join(content["docker"]["run_options"])))
    found += [
        f"{name} is {options.get(name)}, not {value}"
        for name, value in _ENVIRONMENT.items()
        if options.get(name) != value
    ]

    image = content["docker"]["image"]
    if image != f"backtest-farm:{project()['version']}":
        found.append(f"the image is {image}, not of version {project()['version']}")
    asked = re.findall(r"ray\.__version__ == \"([\d.]+)\"", " ".join(content["setup_commands"]))
    if asked != constraints()["ray"]:
        found.append(f"ray {asked} is asked for, constraints.txt has {constraints()['ray']}")

    head = " ".join(content["head_start_ray_commands"])
    if "--dashboard-host=127.0.0.1" not in head:
        found.append("the dashboard is not kept on loopback")
    ports = set(
        re.findall(r"(?:--port=|RAY_HEAD_IP:)(\d+)", head + " ".join(content["worker_start_ray_commands"]))
    )
    if len(ports) != 1:
        found.append(f"head and workers do not agree on one port: {sorted(ports)}")
    if "~/.ray/auth_token" not in content["file_mounts"]:
        found.append("nodes do not get the token")
    if re.search(r"RAY_AUTH_TOKEN=", text):
        found.append("a token is written in the file")
    if content["max_workers"] != len(content["provider"]["worker_ips"]):
        found.append("max_workers is not the number of workers")
    return found


def test_the_cluster_file_is_sound() -> None:
    assert faults(FILE.read_text()) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("idle_timeout_minutes:", "idle_timeout_minuts:"),
        ("idle_timeout_minutes: 60", "idle_timeout_minutes: soon"),
        ("backtest-farm:0.1.0", "backtest-farm:0.0.9"),
        ('"2.60.0"', '"2.59.0"'),
        ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        ("keepalive_timeout_ms=5000", "keepalive_timeout_ms=120000"),
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("$RAY_HEAD_IP:6379", "$RAY_HEAD_IP:6380"),
    ],
)
def test_a_planted_fault_is_noticed(good: str, bad: str) -> None:
    text = FILE.read_text()
    assert good in text
    assert faults(text.replace(good, bad)) != []
