"""Services that let anyone in. Each is proved by a harmless probe whose result stands in the observation's facts."""

from __future__ import annotations

from processors.correlate.contract import Judgement, Rule, ServiceFacts


def redis_without_password(facts: ServiceFacts) -> Judgement | None:
    """Redis answered a command without authentication."""
    if facts.service.facts.get("redis.auth") != "none":
        return None
    return Judgement(
        "Redis answers without a password",
        "Anyone who reaches this port can read, change and delete all its data, and on many set-ups write files that lead to running code "
        "on the host.",
        "Bind Redis to the addresses that need it, set `requirepass` or ACL users, keep protected mode on, and close the port to others.",
        base=90,
        floor=75,
        ceiling=100,
        saw=f"redis.auth=none, {facts.label}",
        proven=True,
    )


def memcached_without_password(facts: ServiceFacts) -> Judgement | None:
    """Memcached answered a command without authentication."""
    if facts.service.facts.get("memcached.auth") != "none":
        return None
    return Judgement(
        "Memcached answers without authentication",
        "Anyone who reaches this port can read and overwrite what applications cache, sessions included.",
        "Bind memcached to loopback or a private network (`-l`), turn UDP off (`-U 0`), and close the port in the firewall.",
        base=75,
        floor=55,
        ceiling=90,
        saw=f"memcached.auth=none, {facts.label}",
        proven=True,
    )


def mqtt_without_password(facts: ServiceFacts) -> Judgement | None:
    """The MQTT broker accepted a connection without a name."""
    if facts.service.facts.get("mqtt.auth") != "none":
        return None
    return Judgement(
        "The MQTT broker accepts anyone",
        "Anyone who reaches this port can listen to all messages and send commands to the devices behind the broker.",
        "Set `allow_anonymous false` with a password file or client certificates, and give each client only its topics.",
        base=68,
        floor=50,
        ceiling=88,
        saw=f"mqtt.auth=none, {facts.label}",
        proven=True,
    )


def anonymous_ftp(facts: ServiceFacts) -> Judgement | None:
    """FTP let the user `anonymous` in."""
    if facts.service.facts.get("ftp.anonymous") != "yes":
        return None
    return Judgement(
        "FTP lets anonymous users in",
        "Files there can be read by anyone; where the folder can be written to, it is used to plant and trade files.",
        "Turn anonymous login off, or serve public files over HTTPS from a read-only folder.",
        base=55,
        floor=40,
        ceiling=85,
        saw=f"ftp.anonymous=yes, {facts.label}",
        proven=True,
    )


def docker_api(facts: ServiceFacts) -> Judgement | None:
    """The Docker engine's API without TLS: its port, or a product that says so."""
    service = facts.service
    named = "docker" in service.product.lower() or service.service == "docker"
    if service.tls is not None or not (named or service.port == 2375) or service.service == "docker-registry":
        return None
    return Judgement(
        "The Docker API is reachable without TLS",
        "Whoever reaches it can start a container that owns the host: it is the same as an open root shell.",
        "Remove `-H tcp://` from the daemon, or require TLS client certificates and close the port.",
        base=92 if named else 70,
        floor=75 if named else 40,
        ceiling=100,
        saw=f"port {service.port}, {facts.label}, no TLS",
        proven=named,
    )


def open_search(facts: ServiceFacts) -> Judgement | None:
    """Elasticsearch or OpenSearch answered GET / with 200; with security on it answers 401."""
    service = facts.service
    named = f"{service.service} {service.product}".lower()
    if service.http is None or service.http.status != 200 or not ("elasticsearch" in named or "opensearch" in named):
        return None
    return Judgement(
        "Elasticsearch answers without a password",
        "Anyone who reaches this port can read, change and delete all indexes; such servers are found and held to ransom within hours.",
        "Turn its security on (`xpack.security.enabled`, or OpenSearch's security plugin), and close the port to all but its applications.",
        base=88,
        floor=68,
        ceiling=100,
        saw=f"HTTP 200 without a login, {facts.label}",
        proven=True,
    )


RULES = (
    Rule(
        "redis-without-password",
        "CWE-306; Redis security documentation",
        "Redis executed a command without a password (fact `redis.auth` is `none`).",
        redis_without_password,
        covers=("data-store-reachable",),
    ),
    Rule(
        "memcached-without-password",
        "CWE-306; CISA alert TA14-017A",
        "Memcached executed a command without authentication (fact `memcached.auth` is `none`).",
        memcached_without_password,
        covers=("data-store-reachable",),
    ),
    Rule(
        "mqtt-without-password",
        "CWE-306; OASIS MQTT 5.0, 5.4",
        "An MQTT broker accepted a connection without a user name (fact `mqtt.auth` is `none`).",
        mqtt_without_password,
    ),
    Rule(
        "ftp-anonymous",
        "CWE-284; CIS Controls v8, 3.3",
        "FTP let the user `anonymous` in (fact `ftp.anonymous` is `yes`).",
        anonymous_ftp,
        covers=("plaintext-login",),
    ),
    Rule(
        "docker-api-open",
        "CWE-306; Docker: protect the daemon socket; CISA BOD 23-02",
        "Port 2375 or a service that calls itself Docker answers without TLS.",
        docker_api,
        covers=("management-reachable", "plain-http"),
    ),
    Rule(
        "elasticsearch-without-password",
        "CWE-306; Elasticsearch: security settings",
        "A service that calls itself Elasticsearch or OpenSearch answered GET / with 200 instead of 401.",
        open_search,
        covers=("data-store-reachable", "plain-http"),
    ),
)
