"""The Dockerfile and the compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
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


def test_the_api_imports_no_measuring_framework():
    heavy = {"torch", "torchvision", "timm", "keras", "onnx", "onnxruntime", "numpy", "scipy"}
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings; create_app(Settings());"
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
