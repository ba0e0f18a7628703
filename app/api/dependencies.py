"""What routes get: settings, and a transaction that ends before the reply is sent."""

from collections.abc import Iterator
from typing import Annotated, cast

from fastapi import Depends, Header, Request
from sqlalchemy.orm import Session

from app.db.session import Database
from app.services.submission import Caller
from app.settings import Settings

TEXT = r"^[^\x00]*$"
"""Text that both databases can hold."""


def database(request: Request) -> Database:
    """Return the application's database."""
    return cast("Database", request.app.state.database)


def settings(request: Request) -> Settings:
    """Return the application's settings."""
    return cast("Settings", request.app.state.settings)


OfDatabase = Annotated[Database, Depends(database)]


def _reading(source: OfDatabase) -> Iterator[Session]:
    with source.read() as session:
        yield session


def _writing(source: OfDatabase) -> Iterator[Session]:
    with source.write() as session:
        yield session


def _caller(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="The same key with the same request makes one thing, however often it is sent.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Caller:
    return Caller(key=key)


# scope="function": the default would commit after the reply was sent, and could then not tell of a failure.
Reading = Annotated[Session, Depends(_reading, scope="function")]
Writing = Annotated[Session, Depends(_writing, scope="function")]
OfSettings = Annotated[Settings, Depends(settings)]
OfCaller = Annotated[Caller, Depends(_caller)]
