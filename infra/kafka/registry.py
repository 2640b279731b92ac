"""Schema ids: from a Confluent-compatible registry where one is configured, else the hashes of the schemas."""

from __future__ import annotations

import json

from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka.client import prefixed
from schemas.codec import Codec
from schemas.release import avro_topics, current_schema, without_docs
from schemas.topics import concrete_names, topic_named


def codec_for(settings: Settings) -> Codec:
    """The codec of this process. With a registry, today's schemas are registered (idempotent) and its ids are used.

    Raises MissingPrerequisite if the registry does not answer or refuses a schema as incompatible.
    """
    if settings.registry.url is None:
        return Codec()
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient  # half a second, and most installations have no registry
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    user_info = settings.registry.user_info
    client = SchemaRegistryClient(
        {"url": settings.registry.url, **({"basic.auth.user.info": user_info.get_secret_value()} if user_info else {})}
    )
    ids: dict[str, int] = {}
    known: dict[int, str] = {}
    try:
        for row in avro_topics():
            text = json.dumps(without_docs(current_schema(row)))
            for name in concrete_names(topic_named(row), settings.zones):
                ids[name] = client.register_schema(f"{prefixed(settings, name)}-value", Schema(text, "AVRO"))
                known[ids[name]] = text
    except (SchemaRegistryError, OSError) as error:
        raise MissingPrerequisite(
            f"The schema registry at {settings.registry.url} did not take the schemas ({error}).", "Check DRIFTLINE_REGISTRY__URL."
        ) from None

    def fetch(number: int) -> str | None:
        try:
            return client.get_schema(number).schema_str
        except SchemaRegistryError:
            return None

    return Codec(ids, fetch, known)
