"""All settings of the service and its workers: one validated object, read from ``ZOOAUDIT_*`` and passed in."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.teams import NAME, SHARED


class Settings(BaseSettings):
    """Settings of one process. Every field is set by the environment variable ``ZOOAUDIT_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="ZOOAUDIT_", frozen=True)

    data_dir: Path = Field(
        default=Path(".zooaudit"), description="Folder of the embedded database and of all measured files."
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the database; default: SQLite in the data folder."
    )
    broker_url: str | None = Field(
        default=None, description="Redis URL that rings Celery workers; default: none, a local worker polls."
    )
    local_zoos: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders with a zoo.toml, or folders of such folders, joined as PATH is. Their code is trusted.",
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/zooaudit"), description="Folder for downloads that no zoo package caches itself."
    )
    worker_slots: int = Field(default=2, ge=1, description="Jobs that one local worker runs at the same time.")
    machine: str | None = Field(
        default=None,
        min_length=1,
        max_length=150,
        description="Name of the machine whose processors the workers share: one latency job runs there at a time. "
        "Default: the kernel's boot id, which is alike in its containers; set it for virtual machines on one host.",
    )
    lease_s: float = Field(default=30.0, gt=0, description="Seconds without a heartbeat after which a job is lost.")
    max_attempts: int = Field(default=3, ge=1, description="Claims after which a job that keeps failing is given up.")
    stop_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds that a job has to end when its worker is told to; it is handed back then.",
    )
    poll_s: float = Field(
        default=0.5,
        gt=0,
        description="Seconds after which an idle local worker looks at the queue in any case; what is submitted it "
        "notices at once.",
    )
    engine_timeout_s: float = Field(default=900.0, gt=0, description="Wall time after which a measurement is killed.")
    engine_memory_bytes: int = Field(
        default=12 * 2**30, ge=2**28, description="Resident memory of a measurement's processes that gets them killed."
    )
    team: str = Field(
        default=SHARED,
        pattern=NAME.pattern,
        description="Team that the command line works for: it sees what is shared and what is this team's, and what it "
        "submits is this team's. Default: for everybody.",
    )
    keep_raw_days: float | None = Field(
        default=None,
        ge=1,
        description="Days that raw files are kept after their last use: latency samples, predictions by item, exported "
        "models. Default: for ever. Results and verdicts stay.",
    )
    keep_idempotency_days: float = Field(
        default=7, ge=1, description="Days in which the same Idempotency-Key makes no second thing."
    )
    keep_deliveries_days: float = Field(
        default=30, ge=2, description="Days that events and their deliveries to webhooks are kept."
    )
    public_url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https?://[!-~]+$",
        description="Address at which people reach the API, which begins the links in webhooks; default: paths alone.",
    )
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Networks besides the public Internet that webhooks may be sent to, with commas: `10.1.0.0/16`.",
    )
    webhook_http: bool = Field(default=False, description="Whether webhooks may have an http address.")
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=60, description="Seconds that a webhook's receiver has for its answer."
    )
    engine_cpu_s: float = Field(
        default=7200.0, gt=0, description="Processor time after which a process of a measurement is killed."
    )
    engine_disk_bytes: int = Field(
        default=16 * 2**30, ge=2**20, description="What a measurement may leave in its scratch folder, and in one file."
    )
    engine_processes: int = Field(
        default=1024, ge=16, description="Processes and threads of a measurement; more get it killed."
    )
    confinement: Literal["warn", "require"] = Field(
        default="warn",
        description="What becomes of measurements on a machine that cannot confine them (docs/security.md): "
        "warn in the log and measure, or require confinement and refuse.",
    )
    key_requests_per_minute: int = Field(
        default=6000, ge=1, description="Requests a minute of an API key that is made without a limit of its own."
    )
    key_submissions_per_day: int = Field(
        default=20_000, ge=1, description="Submissions a day, requests that queue work, of such a key."
    )
    team_jobs: int = Field(
        default=50_000,
        ge=1,
        description="Jobs of one team that may be under way when it submits more by an API key; 429 from then on.",
    )
    upload_bytes: int = Field(default=2 * 2**30, ge=1, description="Size of the largest file that may be uploaded.")
    upload_team_bytes: int = Field(
        default=100 * 2**30, ge=1, description="Bytes that the uploads of one team may have together."
    )
    host: str = Field(default="127.0.0.1", description="Address that `zooaudit serve` listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that `zooaudit serve` listens on.")

    @field_validator("local_zoos", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data_dir", "cache_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("local_zoos", mode="after")
    @classmethod
    def _absolute_each(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser().absolute() for path in value)

    @property
    def url(self) -> str:
        """URL of the database, the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'zooaudit.db'}"

    @property
    def embedded(self) -> bool:
        """Whether local workers poll the database because there is no broker."""
        return self.broker_url is None
