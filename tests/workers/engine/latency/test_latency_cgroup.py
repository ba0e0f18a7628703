from pathlib import Path
from typing import Any

import pytest

from workers.engine.latency import cgroup

GIB = 2**30


def tree(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        # Version 2: the tightest of the group and those above it.
        (
            "0::/pod/box",
            {
                "pod/box/cpu.max": "max 100000",
                "pod/cpu.max": "150000 100000",
                "pod/box/memory.max": str(4 * GIB),
                "pod/memory.max": str(2 * GIB),
                "pod/box/cpuset.cpus.effective": "2-3",
                "cpuset.cpus.effective": "0-7",
            },
            (1.5, 2 * GIB, "2-3"),
        ),
        # In a container the path is the host's, and the mounted root is the container's own.
        ("0::/docker/abc", {"cpu.max": "50000 100000", "memory.max": "max"}, (0.5, None, None)),
        # Version 1: one hierarchy a controller.
        (
            "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:cpuset:/docker/abc\n1:name=systemd:/docker/abc\n0::/",
            {
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/docker/abc/memory.limit_in_bytes": str(GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpuset/docker/abc/cpuset.cpus": "0-1",
            },
            (2.0, GIB, "0-1"),
        ),
        ("0::/", {}, (None, None, None)),
        ("", {"cpu.max": "1 1"}, (None, None, None)),
    ],
)
def test_limits(tmp_path: Path, groups: str, files: dict[str, str], expected: tuple[Any, Any, Any]) -> None:
    mounted = tmp_path / "cgroup"
    mounted.mkdir()
    tree(mounted, files)
    (tmp_path / "self").write_text(groups)
    found = cgroup.limits(tmp_path / "self", mounted)
    assert (found["cpus"], found["memory_bytes"], found["cpuset"]) == expected


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    found = cgroup.limits(tmp_path / "none", tmp_path / "nor this")
    assert found == {"cpus": None, "memory_bytes": None, "cpuset": None}
