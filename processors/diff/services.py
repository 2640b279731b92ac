"""When a service is another than before, and what is kept of what was known. Pure.

A look that knows less (no nmap, a probe that failed) erases nothing; noise (dates, cookies, an error page under load) is no change.
"""

from __future__ import annotations

from collections.abc import Sequence

from processors.enrich.fingerprints import MARK, PACKAGE, same_product
from schemas.plain import Hop, Http, Service, Tls

STEADY_HEADERS = ("x-powered-by", "x-generator", "strict-transport-security")
NO_HEADERS = [""] * len(STEADY_HEADERS)
PASSING_STATUS = 429


def merge(old: Service, new: Service) -> Service:
    """What is known after `new`. A different product replaces all; else fields that `new` does not know are kept."""
    if _other_product(old, new):
        return new
    named = new if new["product"] or not old["product"] else old
    version = named["version"] or old["version"]
    if old["version"].startswith(f"{version} "):
        version = old["version"]
    facts = old["facts"]
    if facts and named is not old:
        facts = {name: said for name, said in facts.items() if not name.startswith(PACKAGE)}
    return {
        "port": old["port"],
        "transport": old["transport"],
        "service": named["service"] or old["service"] or new["service"],
        "product": named["product"],
        "version": version,
        "extra": named["extra"] or old["extra"],
        "cpes": named["cpes"] or old["cpes"],
        "banner": new["banner"] or old["banner"],
        "tls": _merge_tls(old["tls"], new["tls"]),
        "http": _merge_http(old["http"], new["http"]),
        "facts": {**facts, **new["facts"]},
        "evidence": evidence_of(old, new, named),
    }


def _other_product(old: Service, new: Service) -> bool:
    """Whether the two name different products, not one at more or less length (`Apache`, nmap's `Apache httpd`)."""
    before, after = old["product"], new["product"]
    if not before or not after or before == after:
        return False
    known, found = _applications(old), _applications(new)
    if known and found:
        return known.isdisjoint(found)
    return not (same_product(before, after) or same_product(after, before))


def _applications(seen: Service) -> set[str]:
    """The products of a service's CPE names (2.2 URIs, NISTIR 7695); without vendors, which scanners name differently."""
    return {cpe.split(":")[3] for cpe in seen["cpes"] if cpe.startswith("cpe:/a:") and cpe.count(":") >= 3}


def evidence_of(old: Service, new: Service, named: Service) -> list[str]:
    """What contributed, each once; the marks of the table last, and only those of the side that named the product."""
    plain = [one for one in (*old["evidence"], *new["evidence"]) if not one.startswith(MARK)]
    marks = [one for one in named["evidence"] if one.startswith(MARK)]
    return list(dict.fromkeys((*plain, *marks)))


def refine(old: Service, merged: Service) -> Service:
    """What is kept where nothing differs materially: the old texts, so that a date in a banner writes no state, beside what says more."""
    fuller: Service = {**old, "version": merged["version"], "extra": merged["extra"] or old["extra"], "cpes": merged["cpes"]}
    return {**fuller, "evidence": merged["evidence"], "banner": old["banner"] or merged["banner"]}


def _merge_tls(old: Tls | None, new: Tls | None) -> Tls | None:
    if old is None or new is None:
        return new or old
    return new if new["certificate"] else {**new, "certificate": old["certificate"]}


def _merge_http(old: Http | None, new: Http | None) -> Http | None:
    if old is None or new is None:
        return new or old
    return old if passing(new["status"]) else new


def passing(status: int) -> bool:
    """Whether an HTTP status says more about the moment than about the service: 429 and 5xx (RFC 9110)."""
    return status == PASSING_STATUS or status >= 500


def differences(old: Service, new: Service) -> tuple[str, ...]:
    """The names of what differs materially, the certificate apart. Empty fields of `old` that are filled now count as a difference."""
    before, after = _material(old), _material(new)
    found = [name for name in before if before[name] != after[name]]
    if "version" in found and new["version"].startswith(f"{old['version']} ") and old["version"]:
        found.remove("version")  # the same version, said at more length
    if "product" in found and old["product"] and new["product"] and not _other_product(old, new):
        found.remove("product")
    return tuple(found)


def _material(seen: Service) -> dict[str, object]:
    http, tls = seen["http"], seen["tls"]
    return {
        "service": seen["service"],
        "product": seen["product"],
        "version": seen["version"],
        "http status": None if http is None or passing(http["status"]) else http["status"],
        "http title": http["title"] if http else "",
        "http server": http["server"] if http else "",
        "http location": http["location"].partition("?")[0] if http else "",
        "http headers": _steady_headers(http),
        "tls": (tls["version"], sorted(tls["outdated"]), tls["certificate"] is not None) if tls else (),
        "facts": seen["facts"],
    }


def _steady_headers(http: Http | None) -> list[str]:
    if http is None:
        return []
    return [http["headers"].get(name, "") for name in STEADY_HEADERS] if http["headers"] else NO_HEADERS


def certificate_of(seen: Service | None) -> str:
    """The fingerprint of the certificate that was presented; '' if none was."""
    return seen["tls"]["certificate"]["sha256"] if seen and seen["tls"] and seen["tls"]["certificate"] else ""


def describe(seen: Service | None) -> str:
    """A service in a few words, for summaries."""
    if seen is None:
        return "unknown service"
    return " ".join(filter(None, (seen["product"] or seen["service"] or "unknown service", seen["version"])))


def merge_path(old: Sequence[Hop] | None, new: Sequence[Hop]) -> list[Hop]:
    """The path after `new`, without times. Hops that stayed silent now keep the address that they had, unless the path moved."""
    known = {hop["ttl"]: hop["address"] for hop in old or ()}
    moved = old is not None and path_moved(old, new)
    return [{"ttl": hop["ttl"], "address": hop["address"] or ("" if moved else known.get(hop["ttl"], "")), "rtt_ms": None} for hop in new]


def path_moved(old: Sequence[Hop], new: Sequence[Hop]) -> bool:
    """Whether some hop has another address than before. Hops that did not answer say nothing."""
    before = {hop["ttl"]: hop["address"] for hop in old if hop["address"]}
    after = {hop["ttl"]: hop["address"] for hop in new if hop["address"]}
    if any(before[ttl] != after[ttl] for ttl in before.keys() & after.keys()):
        return True
    # One hop more or less before the same last address is a change too, though no ttl answered both times.
    ends = {address: ttl for ttl, address in before.items()}
    return any(ends.get(address, ttl) != ttl for ttl, address in after.items())


def show_path(path: Sequence[Hop]) -> list[str]:
    """The addresses of a path; `*` did not answer."""
    return [hop["address"] or "*" for hop in path]
