"""What a key has to be allowed for each route. A route that does not stand here is refused, and fails a test."""

from __future__ import annotations

from app.domain.keys import Scope

OPEN = frozenset({"/livez", "/readyz", "/v1/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})
"""Paths that ask for no key: they tell of nothing but the program."""

_READ = """
GET /v1/zoos
GET /v1/zoos/{zoo}
GET /v1/zoos/{zoo}/index
GET /v1/zoos/{zoo}/index/failures
GET /v1/listings
GET /v1/listings/{listing_id}
GET /v1/listings/{listing_id}/similar
GET /v1/claims
GET /v1/datasets
GET /v1/datasets/{name}
GET /v1/predictions
GET /v1/predictions/imports/{import_id}
GET /v1/comparisons
GET /v1/comparisons/{comparison_id}
GET /v1/comparisons/{comparison_id}/events
GET /v1/comparisons/{comparison_id}/diagram
GET /v1/comparisons/{comparison_id}/items
POST /v1/comparisons/{comparison_id}/verdicts
GET /v1/audits
GET /v1/audits/{audit_id}
GET /v1/audits/{audit_id}/events
GET /v1/audits/{audit_id}/drift
GET /v1/schedules
GET /v1/schedules/{schedule_id}
GET /v1/schedules/{schedule_id}/runs
GET /v1/findings
GET /v1/matrix
GET /v1/trends
GET /v1/uploads
GET /v1/uploads/{upload_id}
GET /v1/latency/history
GET /v1/policies
GET /v1/policies/{name}
GET /v1/vettings
GET /v1/vettings/{vetting_id}
GET /v1/vettings/{vetting_id}.md
GET /v1/webhooks
GET /v1/webhooks/{webhook_id}
GET /v1/webhooks/{webhook_id}/deliveries
GET /v1/webhooks/{webhook_id}/deliveries/{delivery_id}
"""

_SUBMIT = """
POST /v1/zoos/{zoo}/index
POST /v1/zoos/{zoo}/index/cancel
POST /v1/datasets
POST /v1/predictions/imports
POST /v1/comparisons
POST /v1/comparisons/{comparison_id}/cancel
POST /v1/audits
POST /v1/audits/{audit_id}/cancel
POST /v1/schedules
PATCH /v1/schedules/{schedule_id}
DELETE /v1/schedules/{schedule_id}
POST /v1/policies
POST /v1/vettings
POST /v1/uploads
DELETE /v1/uploads/{upload_id}
POST /v1/webhooks
PATCH /v1/webhooks/{webhook_id}
DELETE /v1/webhooks/{webhook_id}
POST /v1/webhooks/{webhook_id}/secret
POST /v1/webhooks/{webhook_id}/test
POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redelivery
"""

_ADMIN = """
GET /v1/keys
POST /v1/keys
GET /v1/keys/{key_id}
POST /v1/keys/{key_id}/revoke
GET /v1/activity
"""

NEEDED: dict[str, Scope] = {
    route: scope
    for scope, routes in {
        Scope.READ: _READ,
        Scope.SUBMIT: _SUBMIT,
        Scope.ADMIN: _ADMIN,
        Scope.METRICS: "GET /metrics",
    }.items()
    for route in routes.strip().splitlines()
}
"""The scope that each route needs, by method and template."""
