"""What people told this scanner: drain and resume, freeze and thaw. Pure fold of the `commands` topic.

Of drain and resume the latest counts, whether it was said to this agent or to all (`*`). A freeze stands until a thaw of the same network,
or of everything; nothing else lifts it, neither a resume nor a tombstone. A freeze without networks stops everything, and so does one
whose networks can't be read: who cries stop is not asked to spell. A thaw that can't be read lifts nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from schemas.events.grants import Command, CommandKind
from schemas.ids import Network
from schemas.scope import barred, translated

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
            return replace(self, frozen=tuple(dict.fromkeys((*self.frozen, *frozen_networks(command.networks)))))
        if command.kind is CommandKind.THAW:
            return replace(self, frozen=still_frozen(self.frozen, command.networks))
        return replace(self, draining=command.kind is CommandKind.DRAIN)

    def freezes(self, subnet: str) -> bool:
        """Whether any address of this subnet is frozen: then the whole unit stops."""
        here = ipaddress.ip_network(subnet, strict=False)
        return any(_overlap(here, each) for one in self.frozen for each in translated(one))


def key_of_order(command: Command) -> str:
    """Its key in `commands`. What is frozen has a key for each network, so that compaction keeps every freeze and drops no thaw.

    The writer names one network in a command, or none for everything; a thaw of everything has a key of its own, since it lifts them all.
    """
    if command.kind in (CommandKind.DRAIN, CommandKind.RESUME):
        return command.agent_id
    return "|".join((command.agent_id, *(command.networks or ("thaw" if command.kind is CommandKind.THAW else "everything",))))


def frozen_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks that a freeze names; all there are if it names none or one that can't be read."""
    try:
        return tuple(dict.fromkeys(each for one in texts for each in barred(ipaddress.ip_network(one, strict=False)))) or EVERYTHING
    except ValueError:
        return EVERYTHING


def still_frozen(frozen: tuple[Network, ...], texts: tuple[str, ...]) -> tuple[Network, ...]:
    """What a thaw of these networks leaves frozen: nothing if it names none, everything as it was if it names one that can't be read."""
    if not texts:
        return ()
    try:
        thawed = {each for one in texts for each in barred(ipaddress.ip_network(one, strict=False))}
    except ValueError:
        return frozen
    return tuple(one for one in frozen if one not in thawed)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
