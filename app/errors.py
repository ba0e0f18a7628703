"""Errors that a caller can do something about: a status, a slug and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ServiceError(Exception):
    """What happened, to what, and what to do; carries its HTTP status and a stable slug."""

    status = 400
    slug = "bad-request"

    def __init__(
        self,
        message: str,
        *,
        slug: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,  # noqa: ANN401 - JSON members
    ) -> None:
        super().__init__(message)
        self.message = message
        self.slug = slug or self.slug
        self.headers = headers
        self.extra = extra


class UnauthorizedError(ServiceError):
    """Nobody knows who asks."""

    status = 401
    slug = "unauthorized"


class TooManyRequestsError(ServiceError):
    """An allowance is used up for now."""

    status = 429
    slug = "too-many-requests"


class ForbiddenError(ServiceError):
    """Whoever asks is known, and may not do this."""

    status = 403
    slug = "forbidden"


class NotFoundError(ServiceError):
    """The resource named in the address does not exist."""

    status = 404
    slug = "not-found"


class GoneError(ServiceError):
    """What is asked for was there, and was deleted because it had been kept long enough."""

    status = 410
    slug = "gone"


class InvalidError(ServiceError):
    """The request is well formed, but names something unknown or contradicts itself."""

    status = 422
    slug = "invalid"


class ConflictError(ServiceError):
    """The request does not fit the resource's present state."""

    status = 409
    slug = "conflict"


class TooLargeError(ServiceError):
    """The body is larger than the settings allow."""

    status = 413
    slug = "too-large"


class UnsupportedMediaError(ServiceError):
    """The body is of a type that the route does not read."""

    status = 415
    slug = "unsupported-media-type"


class StorageFullError(ServiceError):
    """There is no room for what was sent."""

    status = 507
    slug = "storage-full"
