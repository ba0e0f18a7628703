"""Policies: stored in versions, looked up by name, or given in full with a request."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from app.db import policies
from app.domain.policies import POLICIES, InvalidPolicyError, Policy, read
from app.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.paging import Selection
    from app.db.vetting_tables import PolicyVersion

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def resolve(session: Session, value: str | dict[str, Any] | None) -> Policy:
    """Return what a request names or gives in full; raises InvalidError.

    A name stands for the newest version, ``name@version`` for that one. A policy that is given in full has the version
    under which the same is stored, and none where it is not.
    """
    if value is None:
        value = "default"
    if isinstance(value, str):
        return policies.policy_of(_stored(session, value))
    policy = _read(value)
    for row in policies.versions(session, policy.name):
        if policies.policy_of(row).content() == policy.content():
            return policies.policy_of(row)
    _refuse_shipped(policy)
    return policy


def _stored(session: Session, text: str) -> PolicyVersion:
    name, at, version = text.partition("@")
    if at and not _VERSION.fullmatch(version):
        raise InvalidError(f"{text!r} names no policy; write name or name@version.", slug="unknown-policy")
    row = policies.get(session, name, int(version) if at else None)
    if row is not None:
        return row
    if newest := policies.get(session, name):
        message = f"Policy {name} has no version {version}; its newest is {newest.version}."
        raise InvalidError(message, slug="unknown-policy")
    raise InvalidError(_unknown(session, name), slug="unknown-policy")


def _unknown(session: Session, name: str) -> str:
    known = policies.names(session)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"There is no policy {name!r}" + (
        f". Did you mean {', '.join(near)}?" if near else f"; choose from {', '.join(known)}."
    )


def _read(value: dict[str, Any]) -> Policy:
    try:
        return read(value)
    except InvalidPolicyError as error:
        fields = [{"field": each.field, "message": each.message} for each in error.mistakes]
        raise InvalidError(str(error), slug="invalid-policy", errors=fields) from error


def _refuse_shipped(policy: Policy) -> None:
    if policy.name in POLICIES:
        raise InvalidError(
            f"Policy {policy.name} ships with the project and says something else; give yours another name.",
            slug="shipped-policy",
        )


def add(session: Session, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Store a policy; return it as JSON, and whether that made a new version.

    Content that its newest version has makes none. Raises InvalidError.
    """
    policy = _read(request)
    if not _NAME.fullmatch(policy.name):
        raise InvalidError(
            f"{policy.name!r} is no name to store a policy under; use letters, digits, -, _ and ., at most 100.",
            slug="invalid-name",
        )
    if policy.name in POLICIES and policy.content() != POLICIES[policy.name].content():
        _refuse_shipped(policy)
    row, created = policies.keep(session, policy)
    return to_json(row), created


def show(session: Session, name: str) -> dict[str, Any]:
    """Return the newest version of a policy as JSON, with all ``versions``, the newest first; raises NotFoundError."""
    rows = [to_json(row) for row in policies.versions(session, name)]
    if not rows:
        raise NotFoundError(_unknown(session, name), slug="unknown-policy")
    return rows[0] | {"versions": rows}


def find(session: Session, wanted: Selection) -> dict[str, Any]:
    """Return a page of the policies that are wanted as JSON, each in its newest version."""
    return policies.LISTED.page(session, wanted).map(to_json)


def to_json(row: PolicyVersion) -> dict[str, Any]:
    """Return a stored policy as JSON. ``shipped`` says that it comes with the project."""
    shipped = row.name in POLICIES
    return policies.policy_of(row).to_json() | {"shipped": shipped, "created_at": row.created_at.isoformat()}
