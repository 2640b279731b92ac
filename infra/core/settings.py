"""The one tree of settings, read once at the start of a command and passed on from there.

Sources, the later ones winning: the defaults here, a TOML file (`driftline.toml` in the working directory, or the file that
`DRIFTLINE_CONFIG` names), the environment (`DRIFTLINE_KAFKA__PREFIX=blue` sets `kafka.prefix`). No other module reads the environment.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from infra.core.errors import BadInput
from infra.core.model_settings import ModelSettings
from infra.core.notifier_settings import NotifierSettings
from infra.core.section import Section
from schemas.wording import fault


class KafkaSettings(Section):
    """How to reach Kafka. Without `bootstrap`, `driftline up` runs its own broker."""

    bootstrap: str | None = Field(None, description="host:port list of a Kafka cluster; unset: the embedded broker")
    prefix: str = Field("", description="goes before every topic, group and transactional id, so that a shared cluster works")
    partitions: int = Field(12, ge=1, le=1000, description="partitions of every topic that is not read whole")
    replication: int = Field(1, ge=1, description="replication factor of the topics that Driftline creates")
    min_insync: int | None = Field(
        None, ge=1, description="copies that must hold a record before a write counts; unset: one fewer than `replication`, at least 1"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="whether connections are encrypted (SSL) and authenticated (SASL)"
    )
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = Field("SCRAM-SHA-512", description="how SASL authenticates")
    sasl_username: str | None = Field(None, description="user on a cluster with SASL")
    sasl_password: SecretStr | None = Field(None, description="that user's password")
    sasl_password_file: Path | None = Field(None, description="a file that holds the password")
    ca_file: Path | None = Field(None, description="PEM file of the authorities that the cluster's certificates are checked against")
    certificate_file: Path | None = Field(
        None, description="PEM file of the client's own certificate, where the cluster asks for one (mTLS)"
    )
    key_file: Path | None = Field(None, description="PEM file of that certificate's private key")
    key_password: SecretStr | None = Field(None, description="the private key's password, if it has one")
    key_password_file: Path | None = Field(None, description="a file that holds the private key's password")
    principals: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="user on the cluster → roles, e.g. `scan-dmz = ['scanner@dmz']`: `topics apply` gives each what its roles need",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.principals:
            from schemas.access import parse_role  # it knows all topics and events: to import them takes 40 ms

            for role in (role for roles in self.principals.values() for role in roles):
                parse_role(role)
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        if self.min_insync is not None and self.min_insync > self.replication:
            raise ValueError("min_insync must be at most replication, else nothing can be written")
        return self

    @property
    def copies_needed(self) -> int:
        """How many copies must hold a record before a write counts."""
        return self.min_insync or max(1, self.replication - 1)


class BrokerSettings(Section):
    """The embedded Apache Kafka, one KRaft node: on loopback, and where `listen` says."""

    port: int = Field(19092, ge=1, le=65535, description="where the embedded broker listens, on loopback")
    controller_port: int = Field(19093, ge=1, le=65535, description="where its KRaft controller listens, on loopback")
    heap_mb: int = Field(512, ge=256, description="most heap of the broker's Java")
    sasl: bool = Field(False, description="clients must log in, and each role may do only what it has to")
    listen: str | None = Field(None, description="address:port for scanners on other machines, who must log in (needs `sasl`)")
    certificate_file: Path | None = Field(None, description="PEM file of certificate and private key: `listen` is then encrypted")
    client_ca_file: Path | None = Field(
        None, description="PEM file of authorities: at `listen` a certificate of theirs is the login (mTLS)"
    )
    java: Path | None = Field(None, description="a Java ≥ 17 to use instead of the one from PyPI")
    jars: Path | None = Field(None, description="a folder that holds Kafka's jars, for machines without a network")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.listen is not None:
            host, _, port = self.listen.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("listen is not address:port, such as 198.18.0.1:19094")
            if not self.sasl:
                raise ValueError("listen needs sasl: whoever reaches the broker could otherwise read and write everything")
        if (self.certificate_file or self.client_ca_file) and self.listen is None:
            raise ValueError("certificate_file and client_ca_file are for listen, which is not set")
        if self.client_ca_file and not self.certificate_file:
            raise ValueError("client_ca_file needs certificate_file")
        return self


class ClickHouseSettings(Section):
    """How to reach ClickHouse. Without `dsn`, the `store` role's embedded engine on loopback."""

    dsn: SecretStr | None = Field(None, description="http(s)://user:password@host:port/database of a ClickHouse server")
    dsn_file: Path | None = Field(None, description="a file that holds the DSN")
    reader_dsn: SecretStr | None = Field(None, description="the same of a user who may only read; what asks takes it where it is set")
    reader_dsn_file: Path | None = Field(None, description="a file that holds the reader's DSN")
    database: str = Field("driftline", description="the database that holds all tables")


class StoreSettings(Section):
    """The endpoint in front of the embedded ClickHouse engine, on loopback."""

    port: int = Field(18123, ge=1, le=65535, description="where the store listens, on loopback")
    memory_mb: int = Field(512, ge=128, description="limit of the embedded engine's memory")
    query_seconds: int = Field(30, ge=1, description="a reader's query that runs longer is ended")
    query_rows: int = Field(1_000_000, ge=1, description="most rows that a reader's query may return")


class RegistrySettings(Section):
    """A Confluent-compatible schema registry; unset: ids are hashes of the schemas, and `store` answers the read calls."""

    url: str | None = Field(None, description="http(s)://host:port of the registry")
    user_info: SecretStr | None = Field(None, description="user:password at the registry")
    user_info_file: Path | None = Field(None, description="a file that holds user:password")

    @model_validator(mode="after")
    def _without_password(self) -> Self:
        if self.url is not None and "@" in self.url:
            raise ValueError("url holds a password, which is shown in places: give it as user_info")
        return self


class Signer(Section):
    """A key that may sign grants, and for which networks."""

    name: str
    public_key: str = Field(description="Ed25519 public key, 32 bytes, base64")
    networks: tuple[str, ...] = Field(description="networks that this key may grant; nothing outside them counts")


class ScopeSettings(Section):
    """Whom planner and scanner trust. Never read from Kafka. `driftline grant keygen` writes the local file."""

    signers: tuple[Signer, ...] = Field((), description="trusted signers: `name`, `public_key` (base64), `networks` that it may grant")
    signers_file: Path | None = Field(None, description="TOML file of further signers; default: signers.toml in the data folder")
    signers_required: int = Field(
        1, ge=1, le=2, description="signers that a grant needs, each of whom may grant all its networks; one is enough to revoke"
    )
    resolvers: tuple[str, ...] = Field((), description="DNS servers for names of targets; default: the system's resolver")


class PlannerSettings(Section):
    """How targets become units of work."""

    max_addresses: int = Field(1 << 20, ge=1, description="most addresses that one target may name")
    unit_seconds: int = Field(60, ge=1, le=60, description="longest time that a unit may take at its budget")
    unit_minutes_valid: int = Field(60, ge=1, description="how long a unit may wait beyond its run's own time; then it is not probed")
    default_ports: str = Field(
        "21-23,25,53,80,110,111,135,139,143,389,443,445,465,502,587,631,636,873,993,995,1433,1521,1883,2049,2181,2375,2379,"
        "3000,3306,3389,4369,5000,5432,5601,5672,5900,5984,6379,6443,7001,8000,8008,8080,8081,8086,8088,8443,8500,8888,9000,"
        "9042,9090,9092,9100,9200,9300,9443,10250,11211,15672,27017,50000",
        description="TCP ports that a target without ports means",
    )


FRAGILE_PER_HOST = 5
"""Packets a second to one host of a fragile network."""


class ScannerSettings(Section):
    """How hard this scanner looks, below whatever a grant allows."""

    zone: str = Field("default", description="the zone whose work this scanner takes")
    agent_id: str | None = Field(None, description="default: the host's name and the worker's slot")
    engine: Literal["auto", "syn", "connect"] = Field("auto", description="how ports are swept; auto: syn where raw sockets are allowed")
    backend: Literal["auto", "af_xdp", "tx_ring", "sendmmsg", "raw"] = Field(
        "auto", description="how SYNs leave; auto: the first that works"
    )
    parallel_units: int = Field(16, ge=1, le=256, description="units in work at once, one a subnet")
    packets_per_second: int = Field(1000, ge=1, description="ceiling of this scanner, below whatever a grant allows")
    profile: Literal["normal", "fragile"] = Field(
        "normal", description="fragile: 5 packets a second to one host at most, as for industrial gear"
    )
    per_host_per_second: int = Field(40, ge=1, description="most packets a second to one host")
    connect_timeout: float = Field(1.5, gt=0, description="seconds to wait for a connection")
    attempts: int = Field(2, ge=1, le=5, description="probes to an unanswered port before it counts as silent")
    quarantine_ports: int = Field(100, ge=20, description="a host open on so many ports, and on most that were asked, is not believed")
    hosts_at_once: int = Field(128, ge=1, le=4096, description="hosts of one unit that are looked into at once, below the budgets")
    ports_at_once: int = Field(4, ge=1, le=64, description="ports of one host that are looked into at once")
    nmap_processes: int = Field(4, ge=1, le=16, description="nmap processes at once, of all units of this process")
    hping_processes: int = Field(4, ge=1, le=50, description="hping3 processes at once")
    impact_hold_seconds: int = Field(900, ge=0, description="no unit of a subnet so long after a host of it stopped answering while probed")
    cut_off_seconds: float = Field(5.0, gt=0, description="no successful poll for so long: sending stops")

    @property
    def host_limit(self) -> int:
        """Most packets a second to one host, by the profile too."""
        return min(self.per_host_per_second, FRAGILE_PER_HOST) if self.profile == "fragile" else self.per_host_per_second


class DifferSettings(Section):
    """When silence counts as absence, and change as flapping."""

    closed_votes: int = Field(2, ge=1, description="units that must see a port closed before it is")
    silent_votes: int = Field(3, ge=1, description="units that must see a port silent before it is closed")
    spacing_seconds: int = Field(10, ge=0, le=90, description="least time between two votes")
    min_recall: float = Field(0.9, ge=0, le=1, description="a unit with a lower stated recall has no vote on silence")
    flap_transitions: int = Field(4, ge=2, description="so many openings and closings within `flap_hours` are flapping")
    flap_hours: int = Field(24, ge=1, description="see `flap_transitions`")
    seen_minutes: int = Field(60, ge=0, le=720, description="when a host was seen last is written so often, if nothing else changes")
    stale_hours: int = Field(72, ge=1, description="a host not seen for so long, though probed, is down")


class CorrelatorSettings(Section):
    """What the rules go by."""

    rules: Path | None = Field(None, description="TOML file of your own rules and tables, the same for every correlator")


class AssessorSettings(Section):
    """The lifecycle of findings."""

    resolved_days: int = Field(90, ge=1, description="a resolved finding is forgotten after this many days")


class ArchiverSettings(Section):
    """How batches go into ClickHouse."""

    batch_rows: int = Field(20_000, ge=1, description="most records of one batch")
    flush_ms: int = Field(200, ge=1, description="a smaller batch is written after so long")


class SchedulerSettings(Section):
    """How time is told to the pipeline."""

    tick_seconds: int = Field(60, ge=1, description="length of a tick; 60 outside tests")


class IntelSettings(Section):
    """Vulnerability intelligence: where the public feeds are, and which of them are fetched. None is unless it is switched on."""

    feeds: tuple[Literal["kev", "epss", "cve", "nvd"], ...] = Field(
        (), description="feeds that `intel sync` (when given none) and the role `intel` fetch; empty: no feed is fetched"
    )
    kev: str = Field(
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json", description="KEV: a URL, or a file"
    )
    epss: str = Field("https://epss.empiricalsecurity.com/epss_scores-current.csv.gz", description="EPSS: a URL, or a file")
    cve: str = Field(
        "https://github.com/CVEProject/cvelistV5/archive/refs/heads/main.zip", description="CVE records: a URL, a file or a folder"
    )
    nvd: str = Field(
        "https://nvd.nist.gov/feeds/json/cve/2.0/nvdcve-2.0-modified.json.gz", description="NVD 2.0: a URL, a file or a folder"
    )
    every_minutes: int = Field(240, ge=5, description="the role `intel` asks for news so often")
    download_mb: int = Field(4096, ge=1, description="a feed that is larger is not fetched")
    download_minutes: int = Field(60, ge=1, description="a feed that takes longer is not fetched")


class TelemetrySettings(Section):
    """Logs, health and metrics."""

    port_base: int = Field(18900, ge=0, le=65000, description="first loopback port of health and metrics (see the page of metrics)")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON lines")


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", env_nested_delimiter="__", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("driftline")),
        description="folder of everything that is kept on this machine",
    )
    zones: tuple[str, ...] = Field(("default",), description="places from which networks are looked at; each has its own scanners")
    slot: int = Field(0, ge=0, description="number of this worker among the processes of its role; part of its transactional id")
    kafka: KafkaSettings = KafkaSettings()
    broker: BrokerSettings = BrokerSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    store: StoreSettings = StoreSettings()
    registry: RegistrySettings = RegistrySettings()
    scope: ScopeSettings = ScopeSettings()
    planner: PlannerSettings = PlannerSettings()
    scanner: ScannerSettings = ScannerSettings()
    differ: DifferSettings = DifferSettings()
    correlator: CorrelatorSettings = CorrelatorSettings()
    assessor: AssessorSettings = AssessorSettings()
    model: ModelSettings = ModelSettings()
    archiver: ArchiverSettings = ArchiverSettings()
    notifier: NotifierSettings = NotifierSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    intel: IntelSettings = IntelSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults; arguments (tests) over all."""
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, toml_file=Path(os.environ.get("DRIFTLINE_CONFIG", "driftline.toml")))
        return init_settings, env_settings, toml

    @property
    def bootstrap(self) -> str:
        """Where Kafka is: the configured cluster, else the embedded broker."""
        return self.kafka.bootstrap or f"127.0.0.1:{self.broker.port}"


def load_settings(**overrides: object) -> Settings:
    """Read the settings once. Raises BadInput that lists every wrong setting, not only the first."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"  {fault(one, _both_names([str(part) for part in one['loc']]))}" for one in error.errors()]
        raise BadInput("These settings are wrong:\n" + "\n".join(lines), "\nMend them in the environment or driftline.toml.") from None
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"The settings can't be read: {error}.", "Mend them in the environment or driftline.toml.") from None


def _both_names(path: list[str]) -> str:
    """A setting's name in the tree and in the environment, since a wrong one may come from either."""
    return f"{'.'.join(path)} (DRIFTLINE_{'__'.join(path).upper()})"
