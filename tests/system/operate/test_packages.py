"""The compose file's parts, as far as no engine of containers is needed: roles, settings, and the check of health."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from syncd.postgres.cluster import PORT
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.programs import REPOSITORY


@pytest.fixture(scope="module")
def composed(workspace: Path) -> Iterator[Server]:
    """A server with the settings of the compose file, whose roles its script has made in a database of nothing."""
    with EmbeddedPostgres(workspace / "composed-database") as postgres:
        env = {
            **os.environ, "PATH": f"{postgres.bindir}:{os.environ['PATH']}", "PGHOST": str(postgres.socket_dir),
            "PGPORT": str(PORT), "POSTGRES_USER": "postgres", "POSTGRES_DB": "syncd",
            "SYNCD_APP_PASSWORD": "it's; DROP ROLE syncd_runtime; --", "SYNCD_OWNER_PASSWORD": "owner",
        }  # fmt: skip
        psql = ("psql", "-U", "postgres", "-d", "postgres", "-Xqc")
        # What `syncd serve` makes for itself in a database of its own.
        nothing = (
            "DROP DATABASE IF EXISTS syncd",
            "DROP ROLE IF EXISTS syncd_runtime, syncd_compactor, syncd_owner",
            "CREATE DATABASE syncd",
        )
        for statement in nothing:
            subprocess.run([*psql, statement], env=env, check=True, capture_output=True)
        subprocess.run(["sh", REPOSITORY / "deploy/roles.sh"], env=env, check=True, capture_output=True)
        said = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))["services"]["syncd"][
            "environment"
        ]
        urls = {"database_url": postgres.dsn("syncd_app"), "migrate_url": postgres.dsn("syncd_migrate")}
        plain = {name[6:].lower(): value for name, value in said.items() if "${" not in str(value)}
        secret = {"jwt_secret": "0123456789abcdef" * 4}
        with Server(workspace / "composed", settings={**plain, **urls, **secret}, env={"PYTHONPATH": ""}) as server:
            yield server


def test_the_roles_of_the_compose_file_are_those_that_a_server_needs(composed: Server) -> None:
    said = subprocess.run(
        [*composed.command(), "doctor"], env=composed.environment(), capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout
    assert "syncd_app owns nothing, is bound by row security and can only append to the log" in said.stdout
    headers = {"authorization": f"Bearer {composed.token('ada')}", "x-client-id": "phone", "x-sync-protocol": "1"}
    change = {
        "table": "t",
        "id": "r",
        "op": "insert",
        "changeId": "c",
        "fields": {"x": {"value": 1, "at": "2026-01-01T00:00:00.000000Z"}},
    }
    with httpx.Client(base_url=composed.url, headers=headers) as client:
        assert client.get("/readyz").status_code == 200
        pushed = client.post("/sync/app", json={"changes": [change]})
        assert [result["status"] for result in pushed.json()["results"]] == ["applied"]


def test_the_check_of_the_image_s_health_is_green_while_the_server_lives_and_red_afterwards(composed: Server) -> None:
    line = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").partition("HEALTHCHECK")[2]
    (command,) = re.findall(r"CMD (\[.*\])\n", line.partition("STOPSIGNAL")[0])
    program, *arguments = json.loads(command)
    # What an engine puts into every container is not asked.
    env = {
        **os.environ,
        "SYNCD_PORT": str(composed.port),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    assert program == "python"

    def asked() -> int:
        return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, check=False).returncode

    assert asked() == 0
    composed.stop()
    assert asked() != 0
    composed.start()
