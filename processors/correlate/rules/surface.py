"""Services that should be reached by few, web servers as they were installed, and services that behave oddly."""

from __future__ import annotations

from dataclasses import dataclass

from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable

DEFAULT_PAGES = (
    "welcome to nginx",
    "apache2 debian default page",
    "apache2 ubuntu default page",
    "apache http server test page",
    "test page for the",
    "it works!",
    "iis windows server",
    "welcome to caddy",
    "apache tomcat/",
)

# Products that come with a password that everybody knows: how the title of their login page begins, or the realm that asks for it.
LOGIN_PAGES = (
    "grafana",
    "zabbix",
    "rabbitmq management",
    "sonarqube",
    "nexus repository",
    "sonatype nexus",
    "sign in - airflow",
    "minio console",
    "phpmyadmin",
    "pfsense",
    "login | opnsense",
    "routeros",
    "mikrotik",
    "idrac",
    "integrated dell remote access",
    "supermicro bmc",
    "axis ",
    "tp-link",
    "netgear",
    "d-link",
)
LOGIN_REALMS = ("tomcat manager", "activemqrealm", "netgear", "tp-link", "dlink", "axis_")


@dataclass(frozen=True, slots=True)
class Interface:
    """A kind of service that few should reach: how it is named, its usual ports, and its base risk, floor and ceiling."""

    title: str
    services: tuple[str, ...]
    ports: tuple[int, ...]
    base: float
    floor: float
    ceiling: float


MANAGEMENT = (
    Interface("Remote Desktop", ("ms-wbt-server", "rdp"), (3389,), 58, 20, 85),
    Interface("VNC", ("vnc",), (5900, 5901), 58, 20, 85),
    Interface("WinRM", ("wsman", "winrm"), (5985, 5986), 50, 20, 80),
    Interface("IPMI", ("asf-rmcp",), (623,), 60, 30, 90),
    Interface("The Kubernetes API", ("kubernetes",), (6443,), 45, 15, 85),
    Interface("The kubelet's API", ("kubelet",), (10250,), 55, 25, 90),
    Interface("SSH", ("ssh",), (22,), 20, 5, 50),
)
DATA_STORES = (
    Interface("etcd", ("etcd-client", "etcd-server", "etcd"), (2379, 2380), 65, 30, 95),
    Interface("MySQL", ("mysql",), (3306,), 48, 20, 80),
    Interface("PostgreSQL", ("postgresql",), (5432,), 48, 20, 80),
    Interface("Microsoft SQL Server", ("ms-sql-s", "ms-sql"), (1433,), 50, 20, 80),
    Interface("Oracle", ("oracle-tns", "oracle"), (1521,), 50, 20, 80),
    Interface("MongoDB", ("mongod", "mongodb"), (27017,), 52, 20, 90),
    Interface("Elasticsearch", ("elasticsearch",), (9200, 9300), 52, 20, 90),
    Interface("Redis", ("redis",), (6379,), 42, 15, 80),
    Interface("Memcached", ("memcache", "memcached"), (11211,), 45, 15, 80),
    Interface("Cassandra", ("cassandra", "cassandra-native"), (9042,), 48, 20, 80),
    Interface("CouchDB", ("couchdb",), (5984,), 48, 20, 80),
    Interface("ZooKeeper", ("zookeeper",), (2181,), 48, 20, 80),
    Interface("Kafka", ("kafka",), (9092,), 42, 15, 75),
)


def matching(facts: ServiceFacts, interfaces: tuple[Interface, ...]) -> Interface | None:
    """The interface that a service is: by its identified name, else, where it has none, by its port."""
    service = facts.service
    name = service.service.lower()
    for one in interfaces:
        if name in one.services or (not name and service.port in one.ports):
            return one
    return None


def management_reachable(facts: ServiceFacts) -> Judgement | None:
    """An interface that administers something answers, and not only to administrators."""
    found = matching(facts, MANAGEMENT)
    if found is None or facts.tables.manages(facts.zone):
        return None
    return Judgement(
        f"{found.title} is reachable",
        "An interface that administers a system is a target for password guessing and for the next vulnerability in it.",
        "Let only the administrators' network or a bastion reach it, and require keys or a second factor.",
        base=found.base,
        floor=found.floor,
        ceiling=found.ceiling,
        saw=f"{facts.label} on port {facts.service.port}",
    )


def data_store_reachable(facts: ServiceFacts) -> Judgement | None:
    """A data store answers on the network."""
    found = matching(facts, DATA_STORES)
    if found is None:
        return None
    return Judgement(
        f"{found.title} is reachable",
        "A data store is meant for its applications only; from elsewhere it is open to password guessing, and to whatever flaw it has.",
        "Bind it to the application's network, close the port for everyone else, and require authentication and TLS.",
        base=found.base,
        floor=found.floor,
        ceiling=found.ceiling,
        saw=f"{facts.label} on port {facts.service.port}",
    )


def default_page(facts: ServiceFacts) -> Judgement | None:
    """The web server shows what it was installed with."""
    http = facts.service.http
    title = http.title.strip().lower() if http else ""
    if not any(title.startswith(page) for page in DEFAULT_PAGES):
        return None
    return Judgement(
        "A web server shows its default page",
        "Nobody finished setting it up, so perhaps nobody patches it; the page also tells product and version.",
        "Take the server down if it is not needed; otherwise configure it, and remove the default site.",
        base=16,
        floor=5,
        ceiling=40,
        saw=f"title '{printable(http.title if http else '', 80)}'",
        proven=True,
    )


def default_login(facts: ServiceFacts) -> Judgement | None:
    """The login page of a product whose first password everybody knows. It is never tried."""
    http = facts.service.http
    if http is None:
        return None
    title = http.title.strip().lower()
    realm = http.headers.get("www-authenticate", "").lower()
    if not (any(title.startswith(page) for page in LOGIN_PAGES) or any(word in realm for word in LOGIN_REALMS)):
        return None
    return Judgement(
        "A login page of a product with a well-known first password",
        "Whoever set it up may have kept the password that it came with, which is in its manual and in every attacker's list.",
        "Make sure that the password was changed, and let only those who administer it reach the page. The password was not tried.",
        base=32,
        floor=10,
        ceiling=70,
        saw=f"title '{printable(http.title, 80)}', {printable(http.headers.get('www-authenticate', ''), 60) or 'no realm'}",
    )


def flapping_service(facts: ServiceFacts) -> Judgement | None:
    """It opened and closed many times within a day."""
    if not facts.flapping:
        return None
    return Judgement(
        "A service keeps opening and closing",
        "It may be crashing, overloaded, or behind a device that answers in its place; what is told of it is less sure meanwhile.",
        "Look at the service's log and at firewalls or load balancers on the way.",
        base=15,
        floor=5,
        ceiling=35,
        saw="opened and closed at least 4 times within 24 hours",
    )


def new_service(facts: ServiceFacts) -> Judgement | None:
    """It opened on a host that was known before."""
    if not facts.new:
        return None
    return Judgement(
        "A new service on a known host",
        "A change that should be known to somebody.",
        "Check that it was planned; nothing else to do if it was.",
        base=8,
        floor=0,
        ceiling=35,
        saw=f"{facts.label} opened on port {facts.service.port}",
    )


def suspected_impact(facts: ServiceFacts) -> Judgement | None:
    """It stopped answering while we probed it."""
    if not facts.impact:
        return None
    return Judgement(
        "A service stopped answering while it was probed",
        "Probing may have harmed it, or a firewall has shut us out; its subnet is left alone for a while.",
        "Check the service first. Then probe it more gently (fewer packets per second and host in the grant), or exclude it.",
        base=70,
        floor=40,
        ceiling=90,
        saw=f"port {facts.service.port} answered, and then several times in a row did not",
        proven=True,
    )


SUSPECTED_IMPACT = Rule(
    "suspected-impact",
    "NIST SP 800-115, chapter 7",
    "The service answered and then stopped answering while it was probed; for 7 days.",
    suspected_impact,
)
RULES = (
    SUSPECTED_IMPACT,
    Rule(
        "management-reachable",
        "CISA BOD 23-02; CIS Controls v8, 4.4 and 12.8",
        "SSH, Remote Desktop, VNC, WinRM, IPMI, the Kubernetes API or the kubelet answers, to a zone that is not the administrators'.",
        management_reachable,
    ),
    Rule(
        "data-store-reachable",
        "CIS Controls v8, 3.12 and 4.4; OWASP Database Security Cheat Sheet",
        "A database, cache, queue or coordination service answers on the network.",
        data_store_reachable,
    ),
    Rule("default-page", "CWE-1188; OWASP WSTG-CONF-02", "The page's title is the one that a web server is installed with.", default_page),
    Rule(
        "default-login-page",
        "CWE-1392; OWASP WSTG-ATHN-02; CISA Secure by Design alert on default passwords, 2023",
        "The page's title or realm is that of a product that comes with a well-known password. The password is never tried.",
        default_login,
    ),
    Rule(
        "service-flapping",
        "NIST SP 800-137",
        "The service opened and closed at least 4 times within 24 hours; the finding ends once it has been steady for 24.",
        flapping_service,
    ),
    Rule(
        "service-new",
        "CIS Controls v8, 1.1 and 13.6",
        "A service opened on a host that was known before; for 7 days.",
        new_service,
    ),
)
