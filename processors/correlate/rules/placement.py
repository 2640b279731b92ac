"""Services that are where they should not be, and services that are no more where they should."""

from __future__ import annotations

from processors.correlate.adjustments import OUTSIDE, REACHABILITY
from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable
from processors.correlate.rules.surface import MANAGEMENT, matching
from schemas.events.context import NOTHING

STRANGERS = (*OUTSIDE, "guest", "visitor", "wifi")


def wrong_zone(facts: ServiceFacts) -> Judgement | None:
    """An interface that administers something answers to a zone of strangers, or to one that the user's file does not list."""
    found = matching(facts, MANAGEMENT)
    tables, zone = facts.tables, facts.zone.lower()
    if found is None or tables.manages(zone):
        return None
    if not tables.management_zones and not any(word in zone for word in STRANGERS):
        return None
    who = "is not among the zones of administrators" if tables.management_zones else "is where strangers are"
    return Judgement(
        f"{found.title} is reachable from the wrong zone",
        "An interface that administers a system answers to networks from which nobody should administer it.",
        "Close the port for this zone: let only the administrators' network or a bastion reach it.",
        base=min(found.base + 20, 90),
        floor=found.floor + 10,
        ceiling=min(found.ceiling + 15, 100),
        saw=f"{facts.label} on port {facts.service.port}; zone {printable(facts.zone, 60)} {who}",
        counted=frozenset((REACHABILITY.name,)),
    )


def unexpected_service(facts: ServiceFacts) -> Judgement | None:
    """The inventory or the user's table says what is expected here, and this is not in it."""
    expected = facts.expected
    name = f"{facts.service.transport}/{facts.service.port}"
    if expected is None or name in expected.services:
        return None
    none = set(expected.services) == {NOTHING}
    return Judgement(
        "A service where none should be" if none else "A service that the inventory does not expect",
        "What nobody planned, nobody looks after: it may be forgotten, misconfigured, or an intruder's.",
        "Ask the owner. Remove the service, or add it to the inventory's expected services.",
        base=55 if none else 45,
        floor=25 if none else 20,
        ceiling=85 if none else 75,
        saw=f"{name} ({facts.label}); expected in {printable(expected.network, 60)}: {printable(', '.join(expected.services), 120)}",
    )


def vanished_service(facts: ServiceFacts) -> Judgement | None:
    """It was seen here, it is expected here, and it is gone."""
    expected = facts.expected
    name = f"{facts.service.transport}/{facts.service.port}"
    if not facts.gone or expected is None or name not in expected.services:
        return None
    return Judgement(
        "A service that should be there is gone",
        "It was seen before and is expected, and now its port is closed or silent: users are without it, or somebody moved it.",
        "Look whether it runs. Start it again, or take it out of the inventory's expected services.",
        base=45,
        floor=20,
        ceiling=80,
        saw=f"{name} is gone; expected in {printable(expected.network, 60)}: {printable(', '.join(expected.services), 120)}",
        counted=frozenset((REACHABILITY.name,)),
    )


VANISHED = Rule(
    "service-vanished",
    "NIST SP 800-53 SI-4 and CP-10; CIS Controls v8, 1.1",
    "The inventory, or your own file, expects the service here; it was seen, and then closed or its host went down.",
    vanished_service,
)
RULES = (
    Rule(
        "management-wrong-zone",
        "CISA BOD 23-02; NIST SP 800-53 AC-17; CIS Controls v8, 12.8",
        "An interface of `management-reachable` answers to a zone whose name says internet, external, public, dmz, guest, visitor or wifi, "
        "or, where your own file lists the administrators' zones, to any other.",
        wrong_zone,
        covers=("management-reachable",),
    ),
    Rule(
        "service-unexpected",
        "CIS Controls v8, 2.3 and 4.8; NIST SP 800-53 CM-7",
        "The inventory, or your own file, lists the services expected here, and this port is not among them; "
        "`none` as the only one: no service should be here at all, which weighs more.",
        unexpected_service,
        covers=("service-new",),
    ),
    VANISHED,
)
