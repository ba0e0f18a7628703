"""The command line in this process, with a worker beside it that stays: starting both takes longer than most calls."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
import structlog

from app import cli
from app.db.session import Database
from app.inprocess import InProcess
from app.settings import Settings
from workers.local import LocalWorker


class CommandLine:
    """``zooaudit`` with a data folder of its own. What a call prints and its exit status are those of the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._environment = {
            "ZOOAUDIT_DATA_DIR": str(settings.data_dir),
            "ZOOAUDIT_LOCAL_ZOOS": os.pathsep.join(map(str, settings.local_zoos)),
        }

    def __call__(self, *words, status=0):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in [name for name in os.environ if name.startswith("ZOOAUDIT_")]:
                patch.delenv(name)
            for name, value in self._environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["zooaudit", *map(str, words)])
            # The worker is there already.
            patch.setattr(InProcess, "worker_beside", lambda _: nullcontext())
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert ended.value.code == status, err.getvalue()
        return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture(scope="session")
def open_command_line(sqlite_template):
    """Return ``open(folder, *local_zoos)``, a context with a command line on an empty database and its worker."""

    # As the worker's own process has it: standard output is the command's answer.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

    @contextmanager
    def opened(folder, *local_zoos):
        settings = Settings(data_dir=folder, database_url=None, local_zoos=local_zoos, poll_s=0.05)
        folder.mkdir()
        shutil.copy(sqlite_template, folder)
        database = Database(settings.url)
        worker = LocalWorker(settings, database, slots=1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield CommandLine(settings)
        finally:
            worker.stop.ask(0.0)
            thread.join()
            database.dispose()

    return opened
