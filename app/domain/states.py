"""States of jobs and of what users wait for, in one transition table."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a job, a comparison or an audit."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    # Back to queued: the lease expired or the failure was transient. Running again: a new attempt took over.
    State.RUNNING: frozenset({State.RUNNING, State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


class FailureClass(StrEnum):
    """Why a job failed; a closed set."""

    USAGE = "usage"
    SUBJECT = "subject"
    UNSAFE = "unsafe"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    LOST = "lost"


class JobKind(StrEnum):
    """What a job does."""

    CATALOG = "catalog"
    """List what a zoo publishes."""
    EXPAND = "expand"
    """Turn an audit into comparisons and their jobs."""
    INDEX = "index"
    """Turn a zoo's catalog into structure jobs."""
    STRUCTURE = "structure"
    """Fingerprint the architecture of listings that share it, without their weights."""
    INSPECT = "inspect"
    """Load one listing; keep its artifact, canonical graph and counts."""
    IMPORT = "import"
    """Read predictions that another tool recorded."""
    PREDICT = "predict"
    """Run one listing over a data set; keep what it predicts."""
    SHARD = "shard"
    """Run one listing over some consecutive items of a data set that is too large for one job."""
    LATENCY = "latency"
    """Time the listings of one architecture key against each other."""
    COMPARE = "compare"
    """Compare two listings by what was measured; judge and store the findings."""
    COMPARE_MANY = "compare_many"
    """Compare pairs whose predictions are all there, many at a time."""
    CONCLUDE = "conclude"
    """Close an audit whose comparisons have all ended."""
