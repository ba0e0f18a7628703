"""Every route × key × whose thing it is. A route that is new fails here until it stands in ``app.api.scopes``."""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from app.api.scopes import NEEDED, OPEN
from app.db.clock import now
from app.db.key_tables import Activity, ApiKey
from app.db.session import Database
from app.domain.keys import Scope
from app.main import create_app
from app.services import keys
from app.settings import Settings

_spec = importlib.util.spec_from_file_location("world", Path(__file__).with_name("world.py"))
world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(world)

TEAMS = {"own": "red", "other": "blue", "shared": "shared"}
LISTS = (
    *("listings", "datasets", "predictions", "comparisons", "audits", "schedules", "findings", "policies", "vettings"),
    *("webhooks", "zoos", "uploads"),
)
LEVELS = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)
CHANGES_NOTHING = {
    "POST /v1/zoos/{zoo}/index": "work on a shared zoo is everybody's",
    "POST /v1/zoos/{zoo}/index/cancel": "likewise",
    "POST /v1/keys/{key_id}/revoke": "keys are every admin's",
}
"""Routes that a team may use on what is shared though they change something."""
BODIES = {"PATCH": {"enabled": True}, "verdicts": {"policy": "default"}}


def routes(app):
    """Return every route of an application as ``METHOD /path``."""
    found = ((method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or ())
    return sorted(f"{method} {path}" for method, path in found if path not in OPEN)


@pytest.fixture(scope="module")
def service(tmp_path_factory, sqlite_template):
    """Yield a client, the keys by what they are, and what each team has; two of each, for who changes them."""
    folder = tmp_path_factory.mktemp("authorisation")
    shutil.copy(sqlite_template, folder / "zooaudit.db")
    for team in TEAMS.values():
        (folder / "zoos" / team).mkdir(parents=True)
        toml = f'name = "{world.marker(team)}"\ntitle = "t"\nteam = "{team}"\n'
        (folder / "zoos" / team / "zoo.toml").write_text(toml)
    settings = Settings(
        data_dir=folder, database_url=f"sqlite:///{folder / 'zooaudit.db'}", local_zoos=(folder / "zoos",)
    )
    database = Database(settings.url)
    things = {
        whose: [world.plant(database, team, world.marker(team), number) for number in range(len(LEVELS))]
        for whose, team in TEAMS.items()
    }
    with database.write() as session:
        made = {each: make(session, settings, each, "red") for each in Scope}
        made |= {each: make(session, settings, Scope.ADMIN, "red") for each in ("expired", "revoked")}
        made["blue"] = make(session, settings, Scope.SUBMIT, "blue")
        past = {"expired": {"expires_at": now() - timedelta(days=1)}, "revoked": {"revoked_at": now()}}
        for each, values in past.items():
            session.execute(update(ApiKey).where(ApiKey.id == uuid.UUID(made[each]["id"])).values(**values))
    tokens = {name: key["token"] for name, key in made.items()}
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client, tokens, things, database
    database.dispose()


def make(session, settings, scope, team, **limits):
    request = {"name": scope, "team": team, "scope": scope, "expires_in_days": 1, "requests_per_minute": 10**6}
    return keys.create(session, settings, request | limits)


def ask(client, route, token=None, path=None, **extra):
    method, template = route.split(" ")
    body = BODIES.get(method) or next((value for name, value in BODIES.items() if template.endswith(name)), {})
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    content = {"json": body} if method in {"POST", "PATCH"} else {}
    return client.request(method, path or template, headers=headers | extra, **content)


def kind(reply):
    return reply.json()["type"].removeprefix("urn:zooaudit:") if reply.status_code >= 400 else None


def test_every_route_has_a_scope(service):
    assert routes(service[0].app) == sorted(NEEDED), "give a new route its scope in app/api/scopes.py"


def test_without_a_valid_key_nothing_is_answered(service):
    client, tokens, things, _ = service
    for route in NEEDED:
        path = things["shared"][0].path(route.split(" ")[1])
        for token, slug in (
            (None, "no-key"),
            ("zooaudit_x", "unknown-key"),
            (tokens["expired"], "expired-key"),
            (tokens["revoked"], "revoked-key"),
        ):
            reply = ask(client, route, token, path)
            assert (reply.status_code, kind(reply)) == (401, slug), route
            assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="zooaudit"')
            assert reply.headers["content-type"] == "application/problem+json"
    assert ask(client, "GET /v1/nowhere").status_code == 401
    for path in OPEN:
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("scope", [*LEVELS, Scope.METRICS])
def test_what_a_scope_does_not_allow_is_refused(service, scope):
    client, tokens, things, _ = service
    for route, needed in NEEDED.items():
        if not scope.allows(needed):
            reply = ask(client, route, tokens[scope], things["own"][0].path(route.split(" ")[1]))
            assert (reply.status_code, kind(reply)) == (403, "scope"), route
            assert f'scope="{needed}"' in reply.headers["WWW-Authenticate"]


@pytest.mark.parametrize("scope", LEVELS)
def test_teams_meet_only_their_own_and_what_is_shared(service, scope):
    client, tokens, things, _ = service
    number = LEVELS.index(scope)
    nobody = world.Things("zqnozq", {name: uuid.UUID(int=5) for name in things["own"][0].ids}, "zqnozq", "zqnozq", {})
    # What is removed comes last.
    for route in sorted(NEEDED, key=lambda route: route.startswith("DELETE")):
        template = route.split(" ")[1]
        if not scope.allows(NEEDED[route]):
            continue
        absent = ask(client, route, tokens[scope], nobody.path(template))
        for whose in TEAMS:
            reply = ask(client, route, tokens[scope], things[whose][number].path(template))
            assert reply.status_code < 500, (route, whose, reply.text)
            assert world.marker("blue") not in hidden(reply, template, things["other"][number]), (route, whose)
            if "{" not in template:
                assert reply.status_code not in {401, 403, 404}, (route, reply.text)
            elif whose == "other" and "/keys" not in route:
                seen = (reply.status_code, kind(reply))
                assert seen == (absent.status_code, kind(absent)), (route, reply.text)
                assert reply.status_code in {404, 422}, (route, reply.text)
            elif whose == "shared" and NEEDED[route] is Scope.SUBMIT and route not in CHANGES_NOTHING:
                assert (reply.status_code, kind(reply)) == (403, "shared"), (route, reply.text)
            else:
                assert reply.status_code not in {401, 403}, (route, whose, reply.text)
                assert kind(reply) not in {"not-found", "unknown-zoo", "unknown-dataset", "unknown-policy"}, route


def hidden(reply, template, asked):
    """Return an answer's text without the words that were in the question."""
    said = reply.text
    for word in (asked.path(template), asked.zoo, asked.dataset, asked.policy):
        said = said.replace(word, "")
    return said + str(dict(reply.headers)).replace(asked.path(template), "")


@pytest.mark.parametrize("path", LISTS)
def test_lists_have_ones_own_and_what_is_shared(service, path):
    client, tokens, _, _ = service
    for token, sees, not_ in (("read", "red", "blue"), ("blue", "blue", "red")):
        said = client.get(f"/v1/{path}", headers={"Authorization": f"Bearer {tokens[token]}"}).text
        assert world.marker(sees) in said
        assert world.marker("shared") in said
        assert world.marker(not_) not in said


def test_what_another_team_has_cannot_be_named_in_a_request(service):
    client, tokens, things, _ = service
    theirs, own = things["other"][0], things["own"][0]
    pair = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none"}

    def post(path, body):
        return client.post(f"/v1/{path}", json=body, headers={"Authorization": f"Bearer {tokens['submit']}"})

    bodies = [
        ("comparisons", pair | {"dataset": theirs.dataset}),
        ("comparisons", pair | {"policy": theirs.policy}),
        ("comparisons", {"a": f"{theirs.zoo}:x", "b": "timm:resnet50"}),
        ("comparisons", {"a": f"recorded:{theirs.zoo}", "b": "recorded:x", "dataset": own.dataset}),
        ("vettings", {"comparison_id": str(theirs.ids["comparison_id"]), "policy": "drop-in-api"}),
        ("audits", {"zoos": [theirs.zoo, "timm"]}),
        ("schedules", {"name": "n", "cron": "0 3 * * *", "request": {"zoos": [theirs.zoo, "timm"]}}),
    ]
    for path, body in bodies:
        reply = post(path, body)
        assert reply.status_code == 422, (path, reply.text)
        for word in (theirs.zoo, theirs.dataset, theirs.policy):
            body_text = str(body)
            assert word in body_text or word not in reply.text
        assert kind(reply) != "malformed-request", reply.text
    headers = {"Authorization": f"Bearer {tokens['read']}"}
    where = f"/v1/audits/{own.ids['ended_audit_id']}/drift"
    assert client.get(where, headers=headers).status_code == 200
    foreign = client.get(where, params={"against": str(theirs.ids["ended_audit_id"])}, headers=headers)
    assert (foreign.status_code, kind(foreign)) == (404, "not-found")
    for query in (
        f"findings?comparison_id={theirs.ids['comparison_id']}",
        f"vettings?comparison_id={theirs.ids['comparison_id']}",
        f"predictions?dataset={theirs.dataset}",
        f"listings?zoo={theirs.zoo}",
    ):
        assert client.get(f"/v1/{query}", headers=headers).json()["items"] == [], query
    # That a name is taken says nothing: each team has its own.
    made = post("datasets", {"name": theirs.dataset, "format": "npz", "path": "/x"})
    assert made.status_code == 201, made.text


def test_idempotency_keys_are_each_keys_own(service):
    client, tokens, _, _ = service
    found = {}
    for token in ("submit", "blue", "submit"):
        headers = {"Authorization": f"Bearer {tokens[token]}", "Idempotency-Key": "one"}
        body = {"a": "torchvision:resnet50@none", "b": "timm:resnet50@none", "dimensions": ["architecture"]}
        found.setdefault(token, []).append(client.post("/v1/comparisons", json=body, headers=headers).json()["id"])
    assert found["submit"][0] == found["submit"][1] != found["blue"][0]


def test_teams_share_the_work_on_what_is_public(service):
    client, tokens, _, database = service
    body = {"a": "keras:VGG16@none", "b": "timm:vgg16@none", "dimensions": ["architecture"]}
    with database.read() as session:
        before = session.scalar(text("SELECT count(*) FROM jobs WHERE kind = 'inspect'").columns())
    ids = [
        client.post("/v1/comparisons", json=body, headers={"Authorization": f"Bearer {tokens[token]}"}).json()["id"]
        for token in ("submit", "blue")
    ]
    with database.read() as session:
        after = session.scalar(text("SELECT count(*) FROM jobs WHERE kind = 'inspect'").columns())
    assert after - before == 2
    cancelled = client.post(f"/v1/comparisons/{ids[0]}/cancel", headers={"Authorization": f"Bearer {tokens['submit']}"})
    assert cancelled.json()["state"] == "cancelled"
    other = client.get(f"/v1/comparisons/{ids[1]}", headers={"Authorization": f"Bearer {tokens['blue']}"}).json()
    assert (other["state"], other["progress"]["done"]) == ("queued", 0), "the other team's work goes on"
    assert (
        client.get(f"/v1/comparisons/{ids[1]}", headers={"Authorization": f"Bearer {tokens['admin']}"}).status_code
        == 404
    )


def test_the_record_says_who_did_what_and_no_secret(service):
    client, tokens, things, database = service
    where = f"/v1/comparisons/{things['own'][0].ids['comparison_id']}/cancel"
    for token, status in (("read", 403), ("blue", 404)):
        headers = {"Authorization": f"Bearer {tokens[token]}", "X-Request-Id": f"by-{token}"}
        assert client.post(where, headers=headers).status_code == status
    odd = client.post(f"/v1/audits/{tokens['submit']}/cancel", headers={"Authorization": f"Bearer {tokens['submit']}"})
    assert odd.status_code == 422
    admin = {"Authorization": f"Bearer {tokens['admin']}"}
    body = {"name": "new", "team": "red", "scope": "read"}
    made = client.post("/v1/keys", json=body, headers=admin | {"X-Request-Id": "by-admin"})
    assert made.headers["Cache-Control"] == "no-store"
    found = {}
    for request in ("by-read", "by-blue", "by-admin"):
        (found[request],) = client.get(f"/v1/activity?request_id={request}", headers=admin).json()["items"]
    assert {name: deed["status"] for name, deed in found.items()} == {"by-read": 403, "by-blue": 404, "by-admin": 201}
    assert (found["by-blue"]["team"], found["by-blue"]["path"]) == ("blue", where)
    assert found["by-blue"]["route"] == "/v1/comparisons/{comparison_id}/cancel"
    assert found["by-admin"]["made"] == f"/v1/keys/{made.json()['id']}"
    assert len(client.get("/v1/activity?status=200", headers=admin).json()["items"]) > 1, "looks at keys are deeds too"
    secrets = [*tokens.values(), made.json()["token"]]
    with database.read() as session:
        stored = "\n".join(str(row) for row in session.execute(select(*Activity.__table__.columns)).all())
        stored += "\n".join(str(row) for row in session.execute(select(*ApiKey.__table__.columns)).all())
    assert not any(secret in stored for secret in secrets)
    listed = client.get("/v1/keys", headers=admin).text
    assert not any(secret in listed for secret in secrets)
    assert made.json()["shown"] in listed


def test_the_record_is_only_added_to(database):
    with database.write() as session:
        session.add(Activity(team="x", method="POST", route="/", path="/", status=200, request_id="r"))
    for change in ("UPDATE activity SET team = 'y'", "DELETE FROM activity"):
        with pytest.raises(DBAPIError, match="only ever added"), database.write() as session:
            session.execute(text(change))
