from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _api():
    spec = importlib.util.spec_from_file_location("api_conftest", ROOT / "tests/app/api/conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dashboard_example_runs_against_the_real_api(settings, database):
    api = _api()
    api.seed(settings, database)
    with api.serving(settings) as address:
        words = [sys.executable, ROOT / "examples/dashboard/dashboard.py", address]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "torchvision against timm: 2 of 3 outside" in ran.stdout
    assert "+20.0%" in ran.stdout
    assert "over time: +0.0%, +10.0%, +20.0%" in ran.stdout
    assert "again: 304" in ran.stdout
    assert "findings exported: " in ran.stdout
