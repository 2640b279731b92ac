"""The two ends of an enrolment: the operator's command, which waits for one answer and then gives the agent its rights; and the agent's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from confluent_kafka import Consumer, Producer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from infra.app.enrolment_token import Token, agent_user, joining_user, new_password, public_text, seal, settings_text, unseal
from infra.core.errors import BadInput, MissingPrerequisite, Refused
from infra.core.secret_files import write_secret
from infra.core.settings import KafkaSettings, Settings, Signer
from infra.core.trust import load_signers
from infra.kafka.access import AccessAdmin, permissions
from infra.kafka.client import consumer_config, key_of, login_problem, patiently, prefixed, producer_config, value_of
from infra.kafka.login import login
from schemas.access import rights

log = structlog.get_logger()
TOPIC = "enrolments"
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A token that is out, and what is needed to take its answer."""

    token: Token
    key: X25519PrivateKey
    begins: TopicPartition


@contextmanager
def offered(settings: Settings, agent: str, zone: str, bootstrap: str | None, ca_file: Path | None) -> Iterator[Offer]:
    """A token for this agent, good while the block runs. Raises BadInput, Refused (enrolled already) or MissingPrerequisite."""
    if zone not in settings.zones:
        raise BadInput(f"There is no zone '{zone}'.", f"The zones are {', '.join(settings.zones)} (setting 'zones').")
    access, prefix = AccessAdmin(settings), settings.kafka.prefix
    if agent_user(prefix, agent) in access.users():
        raise Refused(f"{agent} is enrolled already.", f"End that first: driftline agents revoke {agent}")
    password, key, user = new_password(), X25519PrivateKey.generate(), joining_user(prefix, agent)
    token = Token(
        agent=agent,
        zone=zone,
        zones=settings.zones,
        bootstrap=_address(settings, bootstrap),
        prefix=prefix,
        partitions=settings.kafka.partitions,
        protocol=_protocol(settings),
        ca=_ca(settings, ca_file),
        registry=settings.registry.url,
        signers=tuple(Signer(name=one.name, public_key=one.public_key, networks=one.networks) for one in load_signers(settings)),
        signers_required=settings.scope.signers_required,
        password=password,
        public_key=public_text(key),
    )
    begins = _end(settings)
    try:
        access.give(permissions(settings, user, rights("joining", ())))
        access.set_passwords({user: password})
        yield Offer(token, key, begins)
    finally:  # the token dies with this, whatever became of it
        access.drop_password(user)
        access.take_all(user)


def await_answer(settings: Settings, offer: Offer, seconds: float) -> str | None:
    """The password that the agent chose; None if none came in time. The first sealed answer counts; anything else is left out."""
    consumer = Consumer(consumer_config(settings, "follow"))
    deadline = time.monotonic() + seconds
    try:
        consumer.assign([offer.begins])
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None or key_of(message) != offer.token.agent:
                continue
            password = unseal(value_of(message) or b"", offer.token.agent, offer.key)
            if password is not None:
                return password
            log.warning("enrolment_not_for_this_key", agent=offer.token.agent, offset=message.offset())
    finally:
        consumer.close()
    return None


def admit(settings: Settings, token: Token, password: str) -> None:
    """Give the agent its user: rights first, so that whoever can log in can work."""
    access, user = AccessAdmin(settings), agent_user(token.prefix, token.agent)
    access.give(permissions(settings, user, rights("scanner", (token.zone,), token.agent)))
    access.set_passwords({user: password})


def expel(settings: Settings, agent: str) -> bool:
    """End an agent: no new login, and no right for a connection that still stands. Whether there was anything to end."""
    access, found = AccessAdmin(settings), False
    for user in (agent_user(settings.kafka.prefix, agent), joining_user(settings.kafka.prefix, agent)):
        taken = access.take_all(user)  # first what counts at once
        found = access.drop_password(user) or bool(taken) or found
    return found


def join(token: Token, folder: Path) -> Path:
    """Become this agent: settings and password in `folder`.

    Raises Refused if the token is used up or its time is over, MissingPrerequisite if the broker does not take the answer, OSError.
    """
    folder, password = folder.absolute(), new_password()
    password_file, settings_file = folder / "agent.password", folder / "driftline.toml"
    if settings_file.exists():
        raise Refused(f"{settings_file} exists already.", "Join in another folder (--folder), or move that file away.")
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "ca.pem" if token.ca else None
    if ca_file is not None:
        ca_file.write_text(token.ca)
    write_secret(password_file, password)
    _send(_as(token, joining_user(token.prefix, token.agent), token.password.get_secret_value(), ca_file), token, password)
    mine, deadline = _as(token, agent_user(token.prefix, token.agent), password, ca_file), time.monotonic() + ANSWER_SECONDS
    while problem := login_problem(mine, 5.0, silence="it does not answer"):
        if time.monotonic() > deadline:
            raise Refused(
                f"{token.bootstrap} did not take this agent in {ANSWER_SECONDS:.0f} s ({problem}).", "Enrol it again with a new token."
            )
        time.sleep(0.5)
    write_secret(settings_file, settings_text(token, str(password_file), str(ca_file) if ca_file else None).rstrip())
    return settings_file


def _send(settings: Settings, token: Token, password: str) -> None:
    if problem := login_problem(settings, 10.0):
        raise Refused(
            f"{token.bootstrap} does not take the token of {token.agent}: it was used, its time is over, or it was withdrawn ({problem}).",
            "Ask for a new one; if you did not use it, tell the operator that somebody else did.",
        )
    failed: list[str] = []
    producer = Producer(producer_config(settings, **{"message.timeout.ms": 20_000}))
    sealed = seal(password, token.agent, token.public_key)
    producer.produce(
        prefixed(settings, TOPIC),
        sealed,
        token.agent.encode(),
        0,
        on_delivery=lambda error, _: failed.append(error.str()) if error else None,
    )
    if producer.flush(25.0) or failed:
        raise MissingPrerequisite(f"Kafka at {token.bootstrap} did not take the answer ({failed or 'time ran out'}).", "Is it reachable?")


def _as(token: Token, user: str, password: str, ca_file: Path | None) -> Settings:
    kafka = {
        "bootstrap": token.bootstrap,
        "prefix": token.prefix,
        "partitions": token.partitions,
        "security_protocol": token.protocol,
        "sasl_username": user,
        "sasl_password": password,
        "ca_file": ca_file,
    }
    return Settings(kafka=KafkaSettings.model_validate(kafka))


def _end(settings: Settings) -> TopicPartition:
    """Where the topic ends now: an answer to an older token does not count."""
    place = TopicPartition(prefixed(settings, TOPIC), 0)
    consumer = Consumer(consumer_config(settings, "follow"))
    try:
        _, high = patiently(lambda: consumer.get_watermark_offsets(place, 10.0))
    finally:
        consumer.close()
    return TopicPartition(place.topic, 0, high)


def _address(settings: Settings, bootstrap: str | None) -> str:
    found = bootstrap or settings.kafka.bootstrap or settings.broker.listen
    if found is None:
        raise BadInput(
            "Other machines can't reach the embedded broker: it listens on loopback only.",
            "Set DRIFTLINE_BROKER__SASL=true and DRIFTLINE_BROKER__LISTEN=ADDRESS:PORT, restart it, or name --bootstrap.",
        )
    return found


def _protocol(settings: Settings) -> str:
    found = login(settings).protocol
    if settings.kafka.bootstrap is None and settings.broker.client_ca_file is not None:
        raise BadInput(
            "Agents of this broker log in by certificate, not by password.", "Sign one for them, and name it in kafka.principals."
        )
    if settings.kafka.bootstrap is None and settings.broker.certificate_file is not None:
        return "SASL_SSL"
    if not found.startswith("SASL"):
        raise BadInput(
            "Agents need a cluster with passwords (SASL).", "Set DRIFTLINE_KAFKA__SECURITY_PROTOCOL, or DRIFTLINE_BROKER__SASL=true."
        )
    return found


def _ca(settings: Settings, ca_file: Path | None) -> str:
    path = ca_file or settings.kafka.ca_file
    try:
        return path.read_text() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} can't be read: {error}.", "Name a PEM file.") from None
