"""At least one example of every event, with every optional field filled once, over which codec, row and documentation tests iterate.

Addresses are of 198.18.0.0/15 (RFC 2544) and 2001:db8::/32 (RFC 3849).
"""

from __future__ import annotations

from schemas.events.base import Event
from schemas.examples.findings import FINDINGS
from schemas.examples.ground import AT
from schemas.examples.looks import LOOKS

__all__ = ["AT", "EXAMPLES"]

EXAMPLES: tuple[tuple[str, Event], ...] = (*LOOKS, *FINDINGS)
"""Topic and event."""
