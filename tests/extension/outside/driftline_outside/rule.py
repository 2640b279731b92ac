"""A beacon with an open door is an exposure."""

from __future__ import annotations

from processors.correlate.contract import Judgement, Rule, ServiceFacts


def _detect(facts: ServiceFacts) -> Judgement | None:
    if facts.service.facts.get("beacon.door") != "open":
        return None
    return Judgement(
        "A beacon's door is open",
        f"{facts.label} lets anyone in who asks.",
        "Shut the door.",
        base=70,
        floor=50,
        ceiling=90,
        saw="beacon.door open",
        proven=True,
    )


OPEN_BEACON = Rule("open-beacon", "CWE-306", "A beacon that says that its door is open.", _detect)
