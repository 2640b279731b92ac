"""What people told this scanner: drain, resume, freeze. Pure fold of the `commands` topic.

Of the commands to this agent and to all (`*`) the latest counts. A freeze without networks stops everything, and so does one whose networks
can't be read: who cries stop is not asked to spell.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from schemas.events.grants import Command, CommandKind
from schemas.ids import Network

EVERYTHING: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Orders:
    """What counts now: `draining` (finish, take nothing new), `frozen` (networks to which nothing may be sent)."""

    draining: bool = False
    frozen: tuple[Network, ...] = ()

    def after(self, command: Command, agent_id: str) -> Orders:
        """The orders after one more command of the log."""
        if command.agent_id not in (agent_id, "*"):
            return self
        if command.kind is CommandKind.FREEZE:
            return Orders(frozen=frozen_networks(command.networks))
        return Orders(draining=command.kind is CommandKind.DRAIN)

    def freezes(self, subnet: str) -> bool:
        """Whether any address of this subnet is frozen: then the whole unit stops."""
        return bool(self.frozen) and any(_overlap(ipaddress.ip_network(subnet, strict=False), one) for one in self.frozen)


def frozen_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks that a freeze names; all there are if it names none or one that can't be read."""
    try:
        return tuple(ipaddress.ip_network(one, strict=False) for one in texts) or EVERYTHING
    except ValueError:
        return EVERYTHING


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
