"""The differ's step: reads `probes` and `ticks`, keeps the state of assets, emits `changes` and, for a service in doubt, `targets`."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Record, State, read_state
from infra.core.settings import DifferSettings
from processors.diff.diffing import Folded, fold_look, fold_observation, fold_time
from processors.diff.glancing import glance
from processors.diff.settling import Settled, look_settles, milliseconds, observation_settles
from processors.diff.votes import Look, looks
from processors.enrich.fingerprints import Fingerprints, built_in
from schemas.codec import Codec
from schemas.events.assets import AssetState
from schemas.events.base import Transport
from schemas.events.observations import HostObservation, SweepResult
from schemas.events.operations import Tick
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import SUBNET_BITS, asset_key, content_id, subnet_key
from schemas.portset import PortSets, ranges, show_port_sets

SCAN_MINUTES = 60
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
        self._settled = Settled()

    def changes_nothing(self, topic: str, value: bytes, state: State) -> bool:
        """Whether an observation says what the last one said of an asset that has not changed since, told without decoding it."""
        mark = glance(value, self._header) if topic == "probes" else None
        return mark is not None and self._settled.holds(mark.key, mark.at, mark.sighting, state.get(mark.key))

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The outputs of one record. Raises Poison for an address outside its subnet, or a record of another kind."""
        match record.event:
            case SweepResult() as sweep:
                _check([host.address for host in sweep.hosts], sweep.subnet)
                return self._sweep(sweep, context)
            case HostObservation() as seen:
                _check([seen.address], seen.subnet)
                return self._observation(seen, record.raw, context)
            case Tick() as tick:
                return self._tick(tick, context)
            case other:
                raise Poison(f"the differ can't read {type(other).__name__} from {record.topic}")

    def _sweep(self, sweep: SweepResult, context: Context) -> Iterator[Emit]:
        asked = hash((sweep.transport, sweep.ports, sweep.recall))
        for look in looks(sweep):
            key = asset_key(look.zone, look.address)
            place, said, at = f"{sweep.transport.value}|{key}", (asked, look.host), milliseconds(look.at)
            if not look.impact and self._settled.holds(place, at, said, context.state.get(key)):
                continue
            asset = self._asset(key, context)
            if asset is None and not look.host.answered:
                continue
            folded = fold_look(asset, look, self._settings)
            yield from self._keep(asset, folded, context)
            until = look_settles(folded.asset, look, self._settings)
            if until is not None:
                self._settled.note(place, at, milliseconds(until), said, context.state.get(key))
            if folded.suspects:
                yield confirmation(look, folded.suspects, self._settings)

    def _observation(self, seen: HostObservation, raw: bytes, context: Context) -> Iterator[Emit]:
        key = asset_key(seen.zone, seen.address)
        asset, enriched = self._asset(key, context), self._table.enrich(seen)
        folded = fold_observation(asset, enriched, self._table, self._settings)
        yield from self._keep(asset, folded, context)
        mark = glance(raw, self._header)
        if mark is not None and mark[:2] == (key, milliseconds(seen.observed_at)):
            until = observation_settles(folded.asset, enriched, self._table, self._settings)
            if until is not None:
                self._settled.note(key, mark.at, milliseconds(until), mark.sighting, context.state.get(key))

    def _tick(self, tick: Tick, context: Context) -> Iterator[Emit]:
        """Once an hour, each partition in another minute: what time changes is a matter of hours, and a scan decodes every asset."""
        if not scan_due(tick.minute, context.partition):
            return
        assets = ((key, read_state(key, value, self._decode_anew)) for key, value in context.state.scan())
        due = [(asset, folded) for _, asset in assets if (folded := fold_time(asset, tick.minute, self._settings)).asset is not asset]
        for asset, folded in due:
            yield from self._keep(asset, folded, context)

    def _keep(self, before: AssetState | None, folded: Folded, context: Context) -> Iterator[Emit]:
        asset = folded.asset
        if asset is None or asset is before:
            return
        key = asset_key(asset.zone, asset.address)
        context.state.put(key, self._codec.encode("assets", asset))
        for change in folded.changes:
            yield Emit("changes", key, change, route=subnet_key(asset.zone, asset.subnet))

    def _asset(self, key: str, context: Context) -> AssetState | None:
        value = context.state.get(key)
        if value is None:
            return None
        return read_state(key, value, self._decode if len(value) <= CACHED_BYTES else self._decode_anew)


def scan_due(minute: datetime, partition: int) -> bool:
    """Whether this tick scans the partition's assets. A function of the record alone, so that a restart changes nothing."""
    return int(minute.timestamp() // 60 - partition * 5) % SCAN_MINUTES == 0


def confirmation(look: Look, ports: tuple[int, ...], settings: DifferSettings) -> Emit:
    """The request to look again at what one unit missed, not before a second vote would count. One a host and unit."""
    key = asset_key(look.zone, look.address)
    request = TargetRequest(
        request_id=content_id("confirmation", key, look.transport.value, look.unit_id),
        zone=look.zone,
        targets=(look.address,),
        ports=show_port_sets(PortSets(udp=ranges(ports)) if look.transport is Transport.UDP else PortSets(tcp=ranges(ports))),
        grant_id=look.grant_id,
        cause=Cause.CONFIRMATION,
        requested_by="differ",
        not_before=look.at + timedelta(seconds=settings.spacing_seconds),
    )
    return Emit("targets", subnet_key(look.zone, look.subnet), request)


def _decode(codec: Codec, value: bytes) -> AssetState:
    asset = codec.decode("assets", value)
    assert isinstance(asset, AssetState)  # noqa: S101  the topic holds nothing else
    return asset


def _check(addresses: Iterable[str], subnet: str) -> None:
    """An address outside its subnet would be kept in a partition that is not its own."""
    try:
        network = _network(subnet)
        if network.prefixlen != SUBNET_BITS[network.version]:
            raise Poison(f"{subnet} is no subnet: those are /{SUBNET_BITS[4]}, and /{SUBNET_BITS[6]} of IPv6")
        for address in addresses:
            parsed = ipaddress.ip_address(address)
            if parsed not in network or str(parsed) != address:
                raise Poison(f"'{address}' is not an address of {subnet} as RFC 5952 writes it")
    except ValueError as error:
        raise Poison(str(error)) from None


@functools.lru_cache(maxsize=1024)
def _network(subnet: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(subnet)
