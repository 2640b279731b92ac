"""The differ's step: reads `probes` and `ticks`, keeps the state of assets, emits `changes` and, for a service in doubt, `targets`."""

from __future__ import annotations

import functools
import ipaddress
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Record, State, read_state
from infra.core.settings import DifferSettings
from processors.diff.diffing import Folded, fold_look, fold_observation, fold_time
from processors.diff.draft import HOUR, MINUTE
from processors.diff.glancing import Glance, glance
from processors.diff.ground import Ground, ground_of, looks_of, never_looked_at, widened
from processors.diff.settling import Settled, look_settles, looks_alike, observation_settles
from processors.diff.votes import SECOND, Look, hosts_of, impact_on, silent
from processors.enrich.fingerprints import Fingerprints, built_in
from schemas.codec import Codec
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import SUBNET_BITS, asset_key, content_id, subnet_key
from schemas.plain import Asset, Observation, Plain, Sweep, moment
from schemas.portset import PortSets, ranges, show_port_sets

TURNS = 60
OCTETS = frozenset(map(str, range(256)))
CACHED = 512  # decoded assets: a subnet's worth, for a sweep and the observations right after it
CACHED_BYTES = 16_384  # larger ones are decoded anew, so that hosts that answer everywhere don't fill the memory


class Differ:
    """Folds what scanners saw into assets. Pure but for the state that it is given."""

    def __init__(self, settings: DifferSettings, codec: Codec, table: Fingerprints | None = None) -> None:
        self._settings, self._codec = settings, codec
        self._table = table or built_in()
        self._decode_anew = functools.partial(_decode, codec)
        self._decode = functools.lru_cache(maxsize=CACHED)(self._decode_anew)
        self._header = codec.header("probes")
        self._read_ground = functools.lru_cache(maxsize=CACHED)(functools.partial(_ground, codec))
        self._settled = Settled()
        self._glanced: tuple[bytes, Glance | None] = b"", None

    def changes_nothing(self, topic: str, value: bytes, state: State) -> bool:
        """Whether an observation says what the last one said of an asset that has not changed since, told without decoding it."""
        mark = self._glance(value) if topic == "probes" else None
        return mark is not None and self._settled.holds(mark.key, mark.at, mark.sighting, state.get(mark.key))

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The outputs of one record. Raises Poison for an address outside its subnet, or a record of another kind."""
        name, fields = record.plain or ("nothing", {})
        read: Any = fields
        match name:
            case "SweepResult":
                _check((host["address"] for host in read["hosts"]), read["subnet"])
                return self._sweep(read, context)
            case "HostObservation":
                _check((read["address"],), read["subnet"])
                return self._observation(read, record.raw, context)
            case "Tick":
                return self._tick(read["minute"], context)
            case other:
                raise Poison(f"the differ can't read {other} from {record.topic}")

    def _glance(self, value: bytes) -> Glance | None:
        """A record is glanced at twice: before it is decoded, and when it was folded."""
        if self._glanced[0] is not value:
            self._glanced = value, glance(value, self._header)
        return self._glanced[1]

    def _sweep(self, sweep: Sweep, context: Context) -> Iterator[Emit]:
        zone, transport, at = sweep["zone"], sweep["transport"], sweep["finished_at"]
        place_of_looks = subnet_key(zone, sweep["subnet"])
        looks = context.state.get(place_of_looks)
        known = read_state(place_of_looks, looks, self._read_ground) if looks else Ground()
        asked = hash((transport, sweep["recall"], *((span["first"], span["last"]) for span in sweep["ports"])))
        for address, host in hosts_of(sweep).items():
            key = asset_key(zone, address)
            state = context.state.get(key)
            if state is None and (host is None or not host["answered"]):
                continue
            place, said = f"{transport}|{key}", (asked, repr(host))
            impact = impact_on(sweep, address)
            if not impact and self._settled.holds(place, at, said, state):
                continue
            first = never_looked_at(known, transport, address, host["answered"]) if host else frozenset()
            look = Look(sweep, host or silent(address), impact, first)
            asset = self._asset(key, state)
            folded = fold_look(asset, look, self._settings)
            yield from self._keep(asset, folded, context)
            until = look_settles(folded.asset, look, self._settings)
            if until is not None:
                self._settled.note(place, at, until, said, context.state.get(key))
            if folded.suspects:
                yield confirmation(look, folded.suspects, self._settings)
        wider = widened(known, sweep, self._settings.min_recall)
        if wider is not known:
            said_of = looks_of(wider, zone, sweep["subnet"])
            context.state.put(place_of_looks, self._codec.encode("assets", Plain("SubnetLooks", said_of)))

    def _observation(self, seen: Observation, raw: bytes, context: Context) -> Iterator[Emit]:
        key, at = asset_key(seen["zone"], seen["address"]), seen["observed_at"]
        before = context.state.get(key)
        asset, enriched = self._asset(key, before), self._table.enrich(seen)
        folded = fold_observation(asset, enriched, self._table, self._settings)
        yield from self._keep(asset, folded, context)
        after = context.state.get(key)
        if asset is not None and folded.asset is not None and after is not before and looks_alike(asset, folded.asset):
            since = max(folded.asset["last_seen"], folded.asset["last_looked"])
            for transport in ("tcp", "udp"):
                self._settled.carry(f"{transport}|{key}", before, after, since)
        mark = self._glance(raw)
        if mark is not None and mark[:2] == (key, at):
            until = observation_settles(folded.asset, enriched, self._table, self._settings)
            if until is not None:
                self._settled.note(key, at, until, mark.sighting, after)

    def _tick(self, minute: int, context: Context) -> Iterator[Emit]:
        """Each asset once an hour, a sixtieth of them with each tick: what time changes is a matter of hours, and each must be decoded.

        Judged is as of the hour's beginning, so that the asset's turn within it makes no difference.
        """
        hour, turn = minute - minute % HOUR, minute // MINUTE % TURNS
        assets = (
            read_state(key, value, self._decode_anew) for key, value in context.state.scan() if turn_of(key) == turn and "/" not in key
        )
        due = [(asset, folded) for asset in assets if (folded := fold_time(asset, hour, self._settings)).asset is not asset]
        for asset, folded in due:
            yield from self._keep(asset, folded, context)

    def _keep(self, before: Asset | None, folded: Folded, context: Context) -> Iterator[Emit]:
        asset = folded.asset
        if asset is None or asset is before:
            return
        key = asset_key(asset["zone"], asset["address"])
        context.state.put(key, self._codec.encode("assets", Plain("AssetState", asset)))
        for change in folded.changes:
            yield Emit("changes", key, Plain("AssetChange", change), route=subnet_key(asset["zone"], asset["subnet"]))

    def _asset(self, key: str, value: bytes | None) -> Asset | None:
        if value is None:
            return None
        return read_state(key, value, self._decode if len(value) <= CACHED_BYTES else self._decode_anew)


def turn_of(key: str) -> int:
    """The minute of the hour, 0 to 59, in which an asset's state is looked at: of its key alone, so that a restart changes nothing."""
    return zlib.crc32(key.encode()) % TURNS


def confirmation(look: Look, ports: tuple[int, ...], settings: DifferSettings) -> Emit:
    """The request to look again at what one unit missed, not before a second vote would count. One a host and unit."""
    sweep, address = look.sweep, look.host["address"]
    spans = ranges(ports)
    request = TargetRequest(
        request_id=content_id("confirmation", asset_key(sweep["zone"], address), look.transport, look.unit_id),
        zone=sweep["zone"],
        targets=(address,),
        ports=show_port_sets(PortSets(udp=spans) if look.transport == "udp" else PortSets(tcp=spans)),
        grant_id=sweep["grant_id"] or None,  # an imported look names none: whichever grant covers it
        cause=Cause.CONFIRMATION,
        requested_by="differ",
        not_before=moment(look.at + settings.spacing_seconds * SECOND),
    )
    return Emit("targets", subnet_key(sweep["zone"], sweep["subnet"]), request)


def _decode(codec: Codec, value: bytes) -> Asset:
    asset: Any = codec.read("assets", value).fields
    return cast("Asset", asset)


def _ground(codec: Codec, value: bytes) -> Ground:
    looks: Any = codec.read("assets", value).fields
    return ground_of(looks)


def _check(addresses: Iterable[str], subnet: str) -> None:
    """An address outside its subnet would be kept in a partition that is not its own. Raises Poison."""
    try:
        network, prefix = _subnet(subnet)
        for address in addresses:
            if prefix and address.startswith(prefix) and address[len(prefix) :] in OCTETS:
                continue
            parsed = ipaddress.ip_address(address)
            if parsed not in network or str(parsed) != address:
                raise Poison(f"'{address}' is not an address of {subnet} as RFC 5952 writes it")
    except ValueError as error:
        raise Poison(str(error)) from None


@functools.lru_cache(maxsize=1024)
def _subnet(subnet: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]:
    """The network, and how each of its addresses begins as text ('' for IPv6). Raises Poison for what is no subnet, ValueError for less."""
    network = ipaddress.ip_network(subnet)
    if network.prefixlen != SUBNET_BITS[network.version]:
        raise Poison(f"{subnet} is no subnet: those are /{SUBNET_BITS[4]}, and /{SUBNET_BITS[6]} of IPv6")
    return network, str(network.network_address).removesuffix("0") if network.version == 4 else ""
