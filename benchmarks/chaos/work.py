"""The work that a service is given: short real jobs of which it is known how each has to end."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app.db.tables import Job
from app.errors import ConflictError
from app.queue import ring
from app.services import audits, comparisons, predictions
from app.services.submission import Caller, Submitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from sqlalchemy.orm import Session

    from app.db.session import Database
    from app.settings import Settings

ITEMS = 200
DATASET = "chaos"
MODELS = 12
_RETRY_S = 0.3

UNREACHABLE = tuple(f"onnx:{name}" for name in ("bvlcalexnet-3", "bvlcalexnet-6", "bvlcalexnet-7", "caffenet-3"))
"""Files of the ONNX Model Zoo, each of which cannot be downloaded here: a fault that may pass, and does not."""


@dataclass
class Case:
    """One thing to ask for. ``ends`` holds the states that it may end in; ``top1`` what a good end says, by side."""

    kind: str
    request: dict[str, Any]
    ends: frozenset[str]
    cancel_after_s: float | None = None
    code: str | None = None
    top1: tuple[float, ...] = ()
    id: uuid.UUID | None = None
    submitted: float = 0.0
    cancelled: bool = False


@dataclass
class Load:
    """All cases of a run, in the order in which they are submitted."""

    cases: list[Case] = field(default_factory=list)

    def jobs(self) -> int:
        """Return how many jobs the cases make at least; those of files share what looks at a file."""
        return sum({"audit": 3, "unreachable": 2}.get(case.kind, 1) for case in self.cases)


def write_predictions(path: Path, right: int, *, labels: np.ndarray | None = None) -> str:
    """Write what a model answered, ``right`` of the items rightly, and return the path."""
    labels = np.arange(ITEMS) % 10 if labels is None else labels
    first = np.where(np.arange(len(labels)) < right, labels, (labels + 1) % 10)
    classes = np.stack([(first + 5) % 10, first], 1)
    np.savez(path, labels=labels, classes=classes, scores=np.tile([0.2, 0.8], (len(labels), 1)))
    return str(path)


def write_network(path: Path, channels: int) -> str:
    """Write a convolution with a classifier; return its reference."""
    rng = np.random.default_rng(channels)
    weights = [
        numpy_helper.from_array(rng.standard_normal((channels, 3, 3, 3), dtype=np.float32), "w"),
        numpy_helper.from_array(rng.standard_normal((channels, 10), dtype=np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", [1, 3, 16, 16]), ("y", [1, 10]))
    ]
    graph = helper.make_graph(nodes, "network", *ends, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return f"file:{path}"


def first_imports(folder: Path) -> list[Case]:
    """Return the imports that the comparisons are of."""
    return [_import(folder, f"m{number}", 100 + 5 * number) for number in range(MODELS)]


def _import(folder: Path, name: str, right: int) -> Case:
    path = write_predictions(folder / f"{name}.npz", right)
    request = {"model": f"recorded:{name}", "dataset": DATASET, "path": path}
    return Case("import", request, frozenset({"succeeded"}), top1=(right / ITEMS,))


def cases(folder: Path, jobs: int, random: Random) -> Load:
    """Return the cases of at least so many jobs, the first imports among them, in random order."""
    load = Load()
    networks = [write_network(folder / f"n{channels}.onnx", channels) for channels in range(4, 4 + max(3, jobs // 60))]
    pairs = list(combinations(networks, 2))
    random.shuffle(pairs)
    for a, b in pairs[: max(1, jobs // 60)]:
        request = {"a": a, "b": b, "dimensions": ["architecture"]}
        load.cases.append(Case("architecture", request, frozenset({"succeeded"})))
    for ref in UNREACHABLE[: max(1, min(len(UNREACHABLE), jobs // 150))]:
        request = {"a": ref, "b": networks[0], "dimensions": ["architecture"]}
        load.cases.append(Case("unreachable", request, frozenset({"failed"}), code="weights-not-fetched"))
    for _ in range(max(1, jobs // 400)):
        request = {"zoos": ["recorded"], "models": ["m*"], "dataset": DATASET}
        load.cases.append(Case("audit", request, frozenset({"succeeded"})))
    for number in range(jobs // 20):
        path = folder / f"broken{number}.npz"
        path.write_bytes(b"no predictions")
        request = {"model": f"recorded:broken{number}", "dataset": DATASET, "path": str(path)}
        load.cases.append(Case("broken", request, frozenset({"failed"})))
    load.cases += [_import(folder, f"x{number}", number % ITEMS) for number in range(jobs // 7)]
    while load.jobs() < jobs - MODELS:
        case = comparison(*random.sample(range(MODELS), 2))
        if random.random() < 0.08:
            case.cancel_after_s, case.ends = random.uniform(0, 20), frozenset({"succeeded", "cancelled"})
        load.cases.append(case)
    random.shuffle(load.cases)
    return load


def comparison(a: int, b: int) -> Case:
    """Return a comparison of two of the first imports."""
    request = {"a": f"recorded:m{a}", "b": f"recorded:m{b}", "dataset": DATASET}
    right = tuple((100 + 5 * each) / ITEMS for each in (a, b))
    return Case("comparison", request, frozenset({"succeeded"}), top1=right)


class Client:
    """Submits and cancels through the services, again and again while the database does not answer."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self.retries = 0

    def submit(self, case: Case) -> None:
        """Submit a case; it is one submission, however often the answer was lost."""
        key = str(uuid.uuid4())
        submitted = self._again(lambda session: self._submit(session, case, Caller(client="chaos", key=key)))
        case.id, case.submitted = submitted.id, time.monotonic()
        ring(self._settings, submitted.ring)

    def _submit(self, session: Session, case: Case, caller: Caller) -> Any:
        if case.kind in {"import", "broken"}:
            return self._import(session, case.request)
        submit = audits.submit if case.kind == "audit" else comparisons.submit
        return submit(session, self._settings, case.request, caller)

    def _import(self, session: Session, request: dict[str, Any]) -> Any:
        # An import has no key; its path is its own.
        path = Job.payload["path"].as_string()
        if found := session.scalar(select(Job.id).where(Job.kind == "import", path == request["path"])):
            return Submitted(found, created=False)
        return predictions.submit(session, self._settings, request)

    def cancel_due(self, cases: list[Case]) -> None:
        """Cancel the comparisons whose time has come."""
        now = time.monotonic()
        for case in cases:
            if case.cancel_after_s is None or case.id is None or case.cancelled:
                continue
            if now - case.submitted > case.cancel_after_s:
                self._cancel(case, case.id)

    def _cancel(self, case: Case, wanted: uuid.UUID) -> None:
        try:
            self._again(lambda session: comparisons.cancel(session, wanted))
        except ConflictError:
            return
        finally:
            case.cancelled = True

    def open_jobs(self) -> int:
        """Return how many jobs have not ended."""
        return self._jobs("queued", "running")

    def running_jobs(self) -> int:
        """Return how many jobs a worker has claimed."""
        return self._jobs("running")

    def _jobs(self, *states: str) -> int:
        number = select(func.count()).select_from(Job).where(Job.state.in_(states))
        return int(self._again(lambda session: session.scalar(number)))

    def _again(self, ask: Callable[[Session], Any]) -> Any:
        while True:
            try:
                with self._database.write() as session:
                    return ask(session)
            except OperationalError:
                self.retries += 1
                time.sleep(_RETRY_S)
