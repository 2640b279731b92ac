"""An agent enrols with a token that works once, gets a user of its own, and is ended: on a real Kafka with logins."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from infra.app.enrolling import join
from infra.app.enrolment_token import Token, new_password, public_text, seal, settings_text, unseal
from infra.core.errors import BadInput, Refused
from infra.core.settings import KafkaSettings, Settings, Signer, load_settings
from infra.kafka.access import AccessAdmin
from infra.kafka.client import login_problem, prefixed, producer_config
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from processors.scan.heartbeat import Identity
from processors.scan.scanner import run_scanner
from tests.brokers import logged_in, secure_settings
from tests.commands import invoke
from tests.ports import free_ports
from tests.scan_bench import wait_for
from tests.scan_samples import Wire

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    (port,) = free_ports(1)
    base = secure_settings(tmp_path_factory.mktemp("enrol"), listen=f"127.0.0.1:{port}")
    settings = base.model_copy(update={"zones": ("default", "dmz"), "kafka": KafkaSettings(prefix="blue.", partitions=2)})
    broker = Broker(settings)
    try:
        broker.start(timeout=60)
        TopicAdmin(settings).apply()
        yield settings
    finally:
        broker.stop()


def environment(admin: Settings) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(admin.data_dir),
        "DRIFTLINE_BROKER__PORT": str(admin.broker.port),
        "DRIFTLINE_BROKER__SASL": "true",
        "DRIFTLINE_BROKER__LISTEN": str(admin.broker.listen),
        "DRIFTLINE_ZONES": '["default", "dmz"]',
        "DRIFTLINE_KAFKA__PARTITIONS": "2",
        "DRIFTLINE_KAFKA__PREFIX": "blue.",
    }


@contextmanager
def enrolling(admin: Settings, agent: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The operator's command while it waits: the token, and the process."""
    command = [sys.executable, "-m", "infra.app.cli", "agents", "enrol", agent, "--zone", "dmz", "--json", *options]
    with subprocess.Popen(command, env=environment(admin), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line, process.stderr.read() if process.stderr else ""
            yield json.loads(line)["token"], process
        finally:
            process.terminate()


def cli(admin: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.app.cli", *arguments]
    return subprocess.run(command, env=environment(admin), capture_output=True, text=True, timeout=60, check=False)


def test_a_new_machine_joins_works_and_is_ended(admin: Settings, tmp_path: Path) -> None:
    access = AccessAdmin(admin)
    with enrolling(admin, "scan-1") as (text, operator):
        token = Token.read(text)
        file = join(token, tmp_path / "agent")
        assert operator.wait(30) == 0
    # The token is void, and of what it held nothing is left; the agent's password is neither in it nor in the settings file.
    assert access.users() >= {"blue.agent.scan-1"}
    assert "blue.joining.scan-1" not in access.users()
    assert access.existing("blue.joining.scan-1") == set()
    with pytest.raises(Refused, match="it was used"):
        join(token, tmp_path / "thief")
    password = (tmp_path / "agent" / "agent.password").read_text().strip()
    assert password not in text
    assert password not in file.read_text()
    assert stat.S_IMODE((tmp_path / "agent" / "agent.password").stat().st_mode) == 0o600

    os.environ["DRIFTLINE_CONFIG"] = str(file)
    try:
        settings = load_settings(data_dir=tmp_path)
    finally:
        del os.environ["DRIFTLINE_CONFIG"]
    assert settings.scanner.zone == "dmz"
    wire, stop, ready, ended = Wire(tmp_path / "wire", "scan-1"), threading.Event(), threading.Event(), list[str]()
    identity = Identity("scan-1", "dmz", "wire", (), datetime.now(UTC))

    def work() -> None:
        try:
            run_scanner(settings, identity, wire.run, stop, ready.set)
        except Exception as error:  # noqa: BLE001  shown below
            ended.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: ready.is_set() or ended)
        assert not ended, ended
        writer = Producer(producer_config(settings))
        before = write(writer, settings, "agents")
        revoked = cli(admin, "agents", "revoke", "scan-1")
        assert revoked.returncode == 0, revoked.stderr
        after, closed = write(writer, settings, "agents"), time.monotonic()
        wait_for(lambda: ended, 60)
        print(f"the scanner ended {time.monotonic() - closed:.1f} s after its revocation: {ended[0]}")
    finally:
        stop.set()
        thread.join(30)
        wire.close()
    assert before == ""
    assert "authorization failed" in after.lower(), "a connection that stands has no rights any more"
    assert login_problem(settings, 10.0) != "", "and no new one is made"
    assert cli(admin, "agents", "revoke", "scan-1").returncode == 2


def write(producer: Producer, settings: Settings, topic: str) -> str:
    said: list[str] = []
    producer.produce(prefixed(settings, topic), b"x", b"k", 0, on_delivery=lambda error, _: said.append(error.str() if error else ""))
    producer.flush(15)
    return said[0]


def test_a_token_may_answer_and_nothing_else_and_ends_with_its_command(admin: Settings, tmp_path: Path) -> None:
    with enrolling(admin, "scan-2") as (text, operator):
        token = Token.read(text)
        thief = logged_in(admin, "blue.joining.scan-2", token.password.get_secret_value())
        assert {one.right.name for one in AccessAdmin(admin).existing("blue.joining.scan-2")} == {"blue.enrolments"}
        for topic in ("probes", "agents", "grants"):
            assert "authorization failed" in write(Producer(producer_config(thief, **{"message.timeout.ms": 9000})), thief, topic).lower()
        # What is not sealed for this key, or for another name, is left out; the command goes on waiting.
        producer = Producer(producer_config(thief))
        for key, value in ((b"scan-2", b"junk"), (b"scan-2", seal(new_password(), "scan-3", token.public_key)), (b"other", b"")):
            producer.produce("blue.enrolments", value, key, 0)
        assert producer.flush(10) == 0
        with pytest.raises(subprocess.TimeoutExpired):
            operator.wait(2)
        operator.send_signal(2)  # Ctrl-C
        operator.wait(30)
    assert "blue.joining.scan-2" not in AccessAdmin(admin).users()
    with pytest.raises(Refused, match="its time is over"):
        join(token, tmp_path)


def test_a_token_whose_time_is_over_is_void(admin: Settings) -> None:
    with enrolling(admin, "scan-4", "--minutes", "0.05") as (_, operator):
        assert operator.wait(30) == 4
    assert not {"blue.joining.scan-4", "blue.agent.scan-4"} & AccessAdmin(admin).users()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("enrol", "Bad Name"), "no name for an agent"),
        (("enrol", "x", "--zone", "mars"), "There is no zone 'mars'"),
        (("join", "nonsense"), "no enrolment token"),
        (("revoke", "nobody"), "no enrolled agent"),
    ],
)
def test_what_is_wrong_is_said(admin: Settings, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str) -> None:
    for name, value in environment(admin).items():
        monkeypatch.setenv(name, value)
    result = invoke("agents", *arguments)
    assert isinstance(result.exception, BadInput)
    assert says in str(result.exception)


KEY = X25519PrivateKey.generate()


def token(**over: object) -> Token:
    fields = {"agent": "a", "zone": "z", "zones": ("z",), "bootstrap": "b:1", "prefix": "p.", "partitions": 2, "protocol": "SASL_SSL"}
    return Token.model_validate(fields | {"signers": (), "password": "geheim", "public_key": public_text(KEY)} | over)


def test_a_token_shows_no_password_and_comes_back_whole() -> None:
    made = token()
    assert "geheim" not in repr(made)
    assert Token.read(made.text()) == made
    for text in ("", "driftline1.", made.text()[:-9], made.text().removeprefix("driftline1.")):
        with pytest.raises(BadInput, match="no enrolment token"):
            Token.read(text)


def test_the_settings_of_an_agent_are_toml_whatever_a_signer_is_called() -> None:
    signer = Signer(name='𝔄 "\x7f\\ \n', public_key="k", networks=("198.18.0.0/15",))
    read = tomllib.loads(settings_text(token(signers=(signer,), registry="http://r"), "/a b/agent.password", None))
    assert read["scope"]["signers"] == [signer.model_dump(mode="json", include={"name", "public_key", "networks"})]
    assert (read["kafka"]["sasl_password_file"], read["registry"]["url"]) == ("/a b/agent.password", "http://r")


@given(st.binary(max_size=200))
def test_no_bytes_of_a_stranger_are_taken_for_a_password(data: bytes) -> None:
    assert unseal(data, "a", KEY) is None


def test_a_password_reaches_only_the_holder_of_the_key_and_only_for_its_agent() -> None:
    password = new_password()
    sealed = seal(password, "a", public_text(KEY))
    assert password.encode() not in sealed
    assert unseal(sealed, "a", KEY) == password
    assert unseal(sealed, "b", KEY) is None
    assert unseal(sealed, "a", X25519PrivateKey.generate()) is None
    assert unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), "a", KEY) is None
