from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from app.db.session import WriteError
from app.db.tables import Catalog

CHANGES = [
    lambda session: session.execute(update(Catalog).values(version="2")),
    lambda session: session.execute(delete(Catalog)),
    lambda session: session.execute(delete(Catalog.__table__)),
    lambda session: (session.add(Catalog(zoo="keras", version="1", listings=0)), session.flush()),
    lambda session: (setattr(session.scalars(select(Catalog)).one(), "version", "2"), session.flush()),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_reads_refuses_to_write(database, change):
    with database.write() as session:
        session.add(Catalog(zoo="timm", version="1", listings=3))
    with database.read() as session:
        with pytest.raises(WriteError, match="only reads"):
            change(session)
        session.rollback()
        assert session.execute(select(Catalog.zoo, Catalog.version)).all() == [("timm", "1")]
