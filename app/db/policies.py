"""Policies in versions: a name stands for its newest, and none is ever changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from app.db.paging import Listed
from app.db.teams import acting, own_first
from app.db.vetting_tables import PolicyVersion
from app.domain.policies import POLICIES, Policy

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


def _newest() -> ColumnElement[bool]:
    """Whether a row is the newest version of its policy."""
    newer = aliased(PolicyVersion)
    same = (newer.name == PolicyVersion.name, newer.team == PolicyVersion.team)
    return ~exists().where(*same, newer.version > PolicyVersion.version)


def get(session: Session, name: str, version: int | None = None) -> PolicyVersion | None:
    """Return a version of a policy, the newest if none is named; None when there is none.

    Of one name it is the team's own policy, else the shared one.
    """
    found = versions(session, name)
    return next((row for row in found if version in {None, row.version}), None)


def versions(session: Session, name: str) -> list[PolicyVersion]:
    """Return every version of a policy, the newest first: of one name the team's own policy, else the shared one."""
    statement = select(PolicyVersion).where(PolicyVersion.name == name)
    found = list(
        session.scalars(statement.order_by(own_first(session, PolicyVersion.team), PolicyVersion.version.desc()))
    )
    return [row for row in found if row.team == found[0].team]


def names(session: Session) -> list[str]:
    """Return the names of all policies, in order."""
    return list(session.scalars(select(PolicyVersion.name).distinct().order_by(PolicyVersion.name)))


LISTED = Listed(
    PolicyVersion,
    PolicyVersion.id,
    sorts={"name": PolicyVersion.name, "created_at": PolicyVersion.created_at},
    sort="name",
    filters={"shipped": lambda shipped: PolicyVersion.name.in_(POLICIES) == shipped},
    only=[_newest()],
)
"""The newest version of each policy."""


def keep(session: Session, policy: Policy) -> tuple[PolicyVersion, bool]:
    """Return the newest version of a team's policy with this content, and whether it was made now.

    Content that the newest version has makes no other, whoever else is adding one at the same time.
    """
    while True:
        newest = next((row for row in versions(session, policy.name) if row.team == acting(session)), None)
        if newest is not None and policy_of(newest).content() == policy.content():
            return newest, False
        version = 1 if newest is None else newest.version + 1
        row = PolicyVersion(name=policy.name, version=version, content=policy.content())
        try:
            with session.begin_nested():
                session.add(row)
                session.flush()
        except IntegrityError:
            continue  # another transaction made this version first
        return row, True


def policy_of(row: PolicyVersion) -> Policy:
    """Return a stored policy."""
    return Policy.from_json({**row.content, "version": row.version})


def missing_shipped(session: Session) -> list[Policy]:
    """Return the policies that ship with the project and are not stored as they are now."""
    stored = {name: get(session, name) for name in POLICIES}
    return [
        policy
        for name, policy in POLICIES.items()
        if (row := stored[name]) is None or policy_of(row).content() != policy.content()
    ]
