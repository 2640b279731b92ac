"""Starts a real Kafka for tests, on free ports and in a folder of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.core.settings import BrokerSettings, KafkaSettings, Settings
from infra.local.broker import Broker
from tests.ports import free_ports


def broker_settings(tmp_path: Path) -> Settings:
    """Settings for a broker of its own: data under `tmp_path`, free ports."""
    port, controller_port = free_ports(2)
    return Settings(data_dir=tmp_path, broker=BrokerSettings(port=port, controller_port=controller_port, heap_mb=384))


@contextmanager
def running_broker(tmp_path: Path) -> Iterator[str]:
    """A real Kafka with its data under `tmp_path`; gives the bootstrap address, and stops it at the end."""
    broker = Broker(broker_settings(tmp_path))
    try:
        yield broker.start(timeout=60)  # a machine that runs many tests at once is slow
    finally:
        broker.stop()


def secure_settings(tmp_path: Path, **broker: object) -> Settings:
    """Settings for a broker of its own where clients must log in; with these settings they do so as its administrator."""
    settings = broker_settings(tmp_path)
    return settings.model_copy(update={"broker": BrokerSettings(**{**settings.broker.model_dump(), "sasl": True, **broker})})


def logged_in(settings: Settings, user: str, password: str, **over: object) -> Settings:
    """The same as another user, by SCRAM."""
    kafka = settings.kafka.model_dump() | {"security_protocol": "SASL_PLAINTEXT", "sasl_username": user, "sasl_password": password, **over}
    return settings.model_copy(update={"kafka": KafkaSettings.model_validate(kafka)})
