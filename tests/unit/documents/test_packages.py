"""What is published: one version, archives that have what they need, and a compose file that says what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.settings.setting import table
from tests.support.programs import REPOSITORY
from tools import dist, version


def compose() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))


def test_all_packages_have_one_version() -> None:
    found = version.versions()
    assert len(found) == 4
    assert version.agreed(found) == version.versions()["syncd/__init__.py"]


def test_a_version_is_written_everywhere_and_nothing_else_changes(tmp_path: Path) -> None:
    for name in (*version.MODULES, *version.PACKAGES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    before = version.agreed(version.versions(tmp_path))
    version.write("12.3.4", tmp_path)
    assert set(version.versions(tmp_path).values()) == {"12.3.4"}
    version.write(before, tmp_path)
    for name in (*version.MODULES, *version.PACKAGES):
        assert (tmp_path / name).read_bytes() == (REPOSITORY / name).read_bytes()


@pytest.mark.parametrize("wrong", ["1.2", "v1.2.3", "1.2.3rc1", "1.2.3\n"])
def test_a_version_is_three_numbers(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        version.write(wrong, tmp_path)


def test_versions_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"a 1\.0\.0, b 1\.0\.1"):
        version.agreed({"a": "1.0.0", "b": "1.0.1"})


def test_what_an_archive_lacks_and_should_not_have_is_said() -> None:
    assert dist.faults(["syncd/py.typed", "x-1.dist-info/licenses/LICENSE"], ["py.typed", "licenses/LICENSE"]) == []
    assert dist.faults(["a.py", "tests/unit/b.py"], ["py.typed"]) == [
        "py.typed is missing",
        "tests/unit/b.py should not be in it",
    ]


def test_the_image_has_no_root_a_check_of_its_health_and_what_was_built() -> None:
    lines = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    final = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in final if line.startswith("USER")]
    assert users
    assert all(int(user) > 0 for user in users)
    assert any(line.startswith("HEALTHCHECK") for line in final)
    assert not any(line.startswith(("COPY .", "ADD")) for line in lines)
    allowed = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    assert allowed == ["*", "!dist/syncd-*.whl"]


def test_the_compose_file_names_settings_volumes_and_files_that_there_are() -> None:
    services, volumes = compose()["services"], set(compose()["volumes"])
    known = {setting.variable for setting in table()}
    assert set(services["syncd"]["environment"]) <= {*known, "TMPDIR"}
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        for mounted in service.get("volumes", []):
            source = mounted.split(":")[0]
            assert (REPOSITORY / source).is_file() if source.startswith("./") else source in volumes
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other] or "build" in services[other]


def test_the_compose_file_has_no_password_and_says_which_it_needs() -> None:
    text = (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == {"POSTGRES_PASSWORD", "SYNCD_APP_PASSWORD", "SYNCD_OWNER_PASSWORD", "SYNCD_JWT_SECRET"}
    explained = set(re.findall(r"(?m)^#   (\w+)=", text))
    assert explained == needed | {"SYNCD_DOMAIN"}
    assert set(re.findall(r"\$\{(\w+)", text)) == explained


def test_the_proxy_is_one_that_is_trusted() -> None:
    [subnet] = [each["subnet"] for each in compose()["networks"]["default"]["ipam"]["config"]]
    assert compose()["services"]["syncd"]["environment"]["SYNCD_TRUSTED_PROXIES"] == subnet


def test_only_the_proxy_can_be_reached_from_outside() -> None:
    assert [name for name, service in compose()["services"].items() if "ports" in service] == ["proxy"]


def test_what_publishes_keeps_no_secret_and_has_no_more_rights_than_it_needs() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/publish.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    for name in ("pypi", "npm"):
        assert jobs[name]["needs"] == "build"
        assert jobs[name]["permissions"] == {"id-token": "write"}
        assert jobs[name]["environment"] == name
    # Without the dot npm takes it for the name of a repository.
    assert jobs["npm"]["steps"][-1]["run"].startswith("npm publish ./dist/")
    assert "secrets." not in (REPOSITORY / ".github/workflows/publish.yml").read_text(encoding="utf-8")
