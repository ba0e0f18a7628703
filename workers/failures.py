"""How an attempt ends without a result."""

from __future__ import annotations

from typing import Any

from app.domain.states import FailureClass


class AttemptFailedError(Exception):
    """The job fails, with a class, a stable code and a sentence; ``evidence`` is what was seen, as JSON."""

    def __init__(
        self, failure_class: FailureClass, code: str, message: str, evidence: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.code = code
        self.message = message
        self.evidence = evidence or {}

    def to_json(self) -> dict[str, Any]:
        """Return this failure as it is stored."""
        value: dict[str, Any] = {"class": str(self.failure_class), "code": self.code, "message": self.message}
        return value | ({"evidence": self.evidence} if self.evidence else {})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> AttemptFailedError:
        """Read ``to_json``'s form."""
        return cls(FailureClass(value["class"]), value["code"], value["message"], value.get("evidence"))


class CancelledError(Exception):
    """The user asked for the job to end."""


class StoppingError(Exception):
    """This worker is shutting down; the job is for another one."""
