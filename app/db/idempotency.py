"""What a client's ``Idempotency-Key`` stood for, so that asking twice makes one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from app.db.clock import now
from app.db.tables import IdempotencyKey
from app.errors import InvalidError

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session


_ADDING = {
    dialect.dialect.name: dialect.insert(IdempotencyKey.__table__)
    .on_conflict_do_nothing()
    .returning(IdempotencyKey.__table__.c.resource_id)
    for dialect in (postgresql, sqlite)
}


def claim(session: Session, *, client: str, key: str, request_hash: str, resource_id: uuid.UUID) -> uuid.UUID:
    """Tie a key to the resource about to be made; return the id that the key stands for.

    That is ``resource_id`` for a new key, and the earlier one for a key seen before with the same request. Another
    transaction that brings the same key waits here until this one ends. Raises InvalidError when the key stood for
    another request.
    """
    values = {
        "client": client,
        "key": key,
        "request_hash": request_hash,
        "resource_id": resource_id,
        "created_at": now(),
    }
    if session.scalar(_ADDING[session.get_bind().dialect.name], values) is not None:
        return resource_id
    columns = select(IdempotencyKey.request_hash, IdempotencyKey.resource_id)
    row = session.execute(columns.where(IdempotencyKey.client == client, IdempotencyKey.key == key)).one()
    if row.request_hash != request_hash:
        raise InvalidError(
            f"The Idempotency-Key {key!r} was used for another request; use a new key for this one.",
            slug="idempotency-key-reused",
        )
    resource: uuid.UUID = row.resource_id
    return resource
