"""infra/Dockerfile: it parses, and keeps the rules of the house."""

from __future__ import annotations

import io
import re
import tomllib

import pytest
from dockerfile_parse import DockerfileParser
from packaging.specifiers import SpecifierSet

from tests.contracts.tree import ROOT, project

FILE = ROOT / "infra" / "Dockerfile"

_INSTRUCTIONS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COMMENT",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)


def faults(text: str) -> list[str]:
    """Everything that is wrong with a Dockerfile of this project."""
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    found = [f"{name} is no instruction" for name, _ in steps if name not in _INSTRUCTIONS]
    if found or not steps:
        return found or ["the file is empty"]

    stages = {"base", "ci", "farm"}
    named = {value.split()[-1] for name, value in steps if name == "FROM"}
    if named != stages:
        found.append(f"stages are {sorted(named)}, not {sorted(stages)}")
    outside = [value.split()[0] for name, value in steps if name == "FROM" and value.split()[0] not in stages]
    for image in outside:
        tag = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", image)
        if tag is None or tag[1] not in SpecifierSet(project()["requires-python"]):
            found.append(
                f"{image} is not a slim Python {project()['requires-python']} of a named Debian release"
            )

    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    final = steps[last:]
    users = [value for name, value in final if name == "USER"]
    if not users or users[-1] in {"root", "0"}:
        found.append("the image runs as root")
    installs = [value for name, value in final if name == "RUN" and "pip install" in value]
    if not installs or any("--constraint constraints.txt" not in value for value in installs):
        found.append("packages are installed without constraints.txt")
    if parser.labels.get("org.opencontainers.image.version") != project()["version"]:
        found.append(f"the version label is {parser.labels.get('org.opencontainers.image.version')}")
    tags = set(re.findall(r"-t backtest-farm(?:-ci)?:(\S+)", text))
    if tags != {project()["version"]}:
        found.append(f"the commands in the comments name versions {sorted(tags)}")
    if parser.labels.get("org.opencontainers.image.licenses") != project()["license"]:
        found.append("the licence label is not the project's")

    copied = {word for name, value in final if name == "COPY" for word in value.split()[:-1]}
    needed = {"pyproject.toml", "constraints.txt", "backtest_farm", project()["readme"], "LICENSE"}
    if not needed <= copied:
        found.append(f"not copied before the installation: {sorted(needed - copied)}")
    found += [f"{name} is copied but does not exist" for name in copied if not (ROOT / name).exists()]
    return found


def test_the_image_is_sound() -> None:
    assert faults(FILE.read_text()) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("RUN pip install", "RUNN pip install"),
        ("python:3.11-slim-bookworm", "python:latest"),
        ("python:3.11-slim-bookworm", "python:3.10-slim-bookworm"),
        ('image.version="0.1.0"', 'image.version="0.2.0"'),
        ("-t backtest-farm:0.1.0", "-t backtest-farm:latest"),
        ("pip install --constraint constraints.txt", "pip install"),
        ("USER farm\nWORKDIR /home", "USER root\nWORKDIR /home"),
        ("COPY backtest_farm backtest_farm", "COPY backtestfarm backtest_farm"),
    ],
)
def test_a_planted_fault_is_noticed(good: str, bad: str) -> None:
    text = FILE.read_text()
    assert good in text
    assert faults(text.replace(good, bad)) != []


def test_readme_names_this_version() -> None:
    text = (ROOT / "infra" / "README.md").read_text()
    assert set(re.findall(r"backtest-farm(?:-ci)?:(\d[\d.]*\d)", text)) == {project()["version"]}


def test_the_image_leaves_out_what_is_not_the_project() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv"} <= set(ignored)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]["packages"]
    assert not set(packages) & set(ignored)
