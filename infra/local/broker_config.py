"""What the embedded Kafka is told: server properties, log4j2 configuration, JVM flags. Settings in, text out; `write_files` writes it.

Property names and defaults: Apache Kafka 4.3, "Broker Configs" and "KRaft Configs".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.local.broker_access import BrokerAccess, access_properties
from infra.local.java import Java

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs any broker on this machine: a Java, Kafka's jars, and an AOT cache for the two if there is one."""

    java: Java
    jars: tuple[Path, ...]
    aot_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Quorum:
    """Where a broker is one of several: its number, counted from 1, the controllers' ports of all in that order, their cluster's id."""

    node: int
    controller_ports: tuple[int, ...]
    cluster_id: str


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """One broker on one folder: `folder` holds its storage and its generated files, `logs` its log files."""

    folder: Path
    logs: Path
    port: int
    controller_port: int
    heap_mb: int
    access: BrokerAccess | None = None
    quorum: Quorum | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"{HOST}:{self.port}"

    @property
    def storage(self) -> Path:
        """Kafka's own log directory."""
        return self.folder / "data"

    @property
    def properties_file(self) -> Path:
        """The generated server.properties."""
        return self.folder / "server.properties"

    @property
    def log_file(self) -> Path:
        """Kafka's log, bounded by log4j2."""
        return self.logs / "broker.log"

    @property
    def console_file(self) -> Path:
        """What the JVM itself writes, of the last start only."""
        return self.logs / "broker-console.log"


def server_properties(plan: BrokerPlan) -> str:
    """The broker's configuration: a KRaft node, alone unless its plan says otherwise, loopback only, small, quiet at rest."""
    ports = plan.quorum.controller_ports if plan.quorum else (plan.controller_port,)
    # Few coordinators' partitions to load at a start; of each as many copies as there are nodes, and all but one must be there.
    copies, needed = len(ports), max(1, len(ports) - 1)
    properties: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": plan.quorum.node if plan.quorum else 1,
        "controller.quorum.voters": ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(ports, 1)),
        "listeners": f"PLAINTEXT://{HOST}:{plan.port},CONTROLLER://{HOST}:{plan.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{plan.port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": plan.storage,
        "auto.create.topics.enable": "false",
        "message.max.bytes": 8 << 20,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 12,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": needed,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": needed,
        "share.coordinator.state.topic.num.partitions": 1,
        # A laptop may be off for longer than the default of 7 days, and must then go on where it was.
        "offsets.retention.minutes": 365 * 24 * 60,
        # A killed role's successor waits for neither the group nor the dead role's transaction.
        "group.initial.rebalance.delay.ms": 0,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # Small: the cleaner's map alone takes 128 MB of heap by default.
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        "log.cleaner.io.buffer.size": 1 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
        # After a crash the controller refuses the restarted broker until the old session ends (9 s by default).
        "broker.session.timeout.ms": 5000,
        "broker.heartbeat.interval.ms": 1000,
        # Quiet: these records keep the standby controllers of a larger quorum up to date.
        "metadata.max.idle.interval.ms": 5000,
    }
    if plan.access is not None:
        properties |= access_properties(plan.access, plan.port, plan.controller_port)
    return "".join(f"{name}={value}\n" for name, value in properties.items())


LOG4J2 = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error" shutdownHook="disable">
  <Appenders>
    <RollingFile name="File" fileName="${sys:driftline.log}" filePattern="${sys:driftline.log}.%i">
      <PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/>
      <SizeBasedTriggeringPolicy size="5 MB"/>
      <DefaultRolloverStrategy max="2"/>
    </RollingFile>
  </Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="File"/></Root></Loggers>
</Configuration>
"""


JVM_FLAGS = (
    "-XX:+UseSerialGC",
    # Only the first compiler: half the CPU of a start, less memory, and as many records a second (measured: the broker copies, it
    # does not compute).
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-XX:MetaspaceSize=64m",  # else the classes of a start make it collect twice
    # Compression libraries are native.
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
)


def java_command(runtime: Runtime, plan: BrokerPlan, *arguments: str | Path, flags: tuple[str, ...] = ()) -> list[str]:
    """The command that runs a class of Kafka, `arguments`, with the plan's log configuration and further JVM `flags`."""
    newer = ["--sun-misc-unsafe-memory-access=allow"] if runtime.java.major >= 24 else []
    cached = ["-Xlog:aot*=error", f"-XX:AOTCache={runtime.aot_cache}"] if runtime.aot_cache else []
    return [
        str(runtime.java.executable),
        f"-Xmx{plan.heap_mb}m",
        *JVM_FLAGS,
        *newer,
        *cached,
        *flags,
        f"-XX:ErrorFile={plan.logs / 'broker-crash.log'}",
        f"-Dlog4j2.configurationFile={plan.folder / 'log4j2.xml'}",
        f"-Ddriftline.log={plan.log_file}",
        "-cp",
        ":".join(str(jar) for jar in runtime.jars),
        *(str(argument) for argument in arguments),
    ]


def write_files(plan: BrokerPlan) -> None:
    """Write the generated files; they follow the settings at every start. Raises OSError."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.logs.mkdir(parents=True, exist_ok=True)
    plan.properties_file.touch(mode=0o600)
    plan.properties_file.chmod(0o600)  # it may hold a password
    plan.properties_file.write_text(server_properties(plan))
    (plan.folder / "log4j2.xml").write_text(LOG4J2)
