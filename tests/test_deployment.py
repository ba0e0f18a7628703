"""The Dockerfile and the compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_compose_has_the_services_of_the_design(services):
    assert set(services) == {"postgres", "redis", "migrate", "api", "worker", "worker-gpu", "reaper", "scheduler"}
    assert services["worker-gpu"]["profiles"] == ["gpu"]


def test_build_targets_exist(services):
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    used = {service["build"]["target"] for service in services.values() if "build" in service}
    assert used <= targets


def test_every_long_running_service_has_a_health_check(services):
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", dockerfile, flags=re.MULTILINE | re.DOTALL))
    for name, service in services.items():
        if name in {"migrate", "reaper", "scheduler"}:  # one ends by itself, the others listen to nothing
            continue
        assert "healthcheck" in service or "HEALTHCHECK" in stages[service["build"]["target"]], name


def test_services_wait_for_the_schema(services):
    for name in ("api", "worker", "worker-gpu", "reaper", "scheduler"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_settings_of_the_compose_file_exist(services):
    from app.settings import Settings

    known = {f"ZOOAUDIT_{name.upper()}" for name in Settings.model_fields}
    for service in services.values():
        used = {name for name in service.get("environment", {}) if name.startswith("ZOOAUDIT_")}
        assert used <= known


def test_commands_name_modules_that_exist(services):
    for service in services.values():
        command = service.get("command", [])
        if command[:2] == ["python", "-m"]:
            assert (ROOT / (command[2].replace(".", "/") + ".py")).exists()


def test_every_command_starts_a_program_of_the_image(services):
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert {"zooaudit", "celery", "uvicorn"} <= scripts
    for name, service in services.items():
        if "build" in service and "command" in service:
            assert service["command"][0] in scripts | {"python"}, name
    for program in re.findall(r'^CMD \["(\w+)"', (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE):
        assert program in scripts


def test_volumes_and_services_that_are_named_exist(services):
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for name, service in services.items():
        assert {each.split(":")[0] for each in service.get("volumes", [])} <= volumes.keys(), name
        assert service.get("depends_on", {}).keys() <= services.keys(), name
        for needed, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "test" in services[needed]["healthcheck"], name


def test_no_password_has_a_default_and_only_loopback_is_published(services):
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{(\w+)(.)", text)) == {("POSTGRES_PASSWORD", ":")}
    assert "${POSTGRES_PASSWORD:-" not in text
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


UNITS = sorted((ROOT / "examples" / "systemd").glob("*.service"))


def test_units_start_what_compose_starts_and_every_module_exists(services):
    started = {}
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=/opt/zooaudit/venv/bin/(.*)$", unit.read_text(), flags=re.MULTILINE)
        started[unit.name.removeprefix("zooaudit-").split(".")[0].rstrip("@")] = line.replace("%%", "%").split()
    assert set(started) == set(services) - {"postgres", "redis", "migrate", "worker-gpu"}
    for name in ("reaper", "scheduler"):
        assert started[name] == services[name]["command"]
    images = {"api": "uvicorn", "worker": "celery"}
    for name, program in images.items():
        (image,) = re.findall(rf'^CMD (\["{program}".*)$', (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
        places = {"worker@%h", "worker%i@%h", "0.0.0.0", "127.0.0.1"}  # noqa: S104 - a container's own
        assert [word for word in started[name] if word not in places] == [
            word for word in yaml.safe_load(image) if word not in places
        ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="checks units; Debian's package systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_a_unit(unit, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("uvicorn", "celery", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/zooaudit/venv/bin", str(programs)))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_api_imports_no_measuring_framework():
    heavy = {"torch", "torchvision", "timm", "keras", "onnx", "onnxruntime", "numpy", "scipy"}
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings; create_app(Settings());"
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
