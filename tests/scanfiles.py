"""Makes files as nmap 7.93 writes them, for tests: only documentation and benchmark addresses."""

from __future__ import annotations

from collections.abc import Sequence

END = 1760000000


def port(number: int, state: str, reason: str = "", protocol: str = "tcp", inner: str = "") -> str:
    """A named port."""
    why = reason or {"open": "syn-ack", "closed": "reset"}.get(state, "no-response")
    return f'<port protocol="{protocol}" portid="{number}"><state state="{state}" reason="{why}" reason_ttl="64"/>{inner}</port>\n'


def host(
    address: str, ports: str, names: Sequence[str] = (), end: int = END, inner: str = "", attributes: str = "", reason: str = "syn-ack"
) -> str:
    """A host that was up."""
    listed = "".join(f'<hostname name="{name}" type="PTR"/>' for name in names)
    return (
        f'<host starttime="{end - 5}" endtime="{end}" {attributes}><status state="up" reason="{reason}" reason_ttl="64"/>\n'
        f'<address addr="{address}" addrtype="{"ipv6" if ":" in address else "ipv4"}"/>\n<hostnames>{listed}</hostnames>\n'
        f"<ports>{ports}</ports>{inner}</host>\n"
    )


def nmap_xml(
    hosts: str, services: str, args: str = "nmap -oX scan.xml", kind: str = "syn", protocol: str = "tcp", total: int = 1, end: int = END
) -> str:
    """A whole file."""
    info = f'<scaninfo type="{kind}" protocol="{protocol}" numservices="1" services="{services}"/>' if services else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nmaprun>\n<?xml-stylesheet href="nmap.xsl" type="text/xsl"?>\n'
        f'<nmaprun scanner="nmap" args="{args}" start="{end - 10}" version="7.93" xmloutputversion="1.05">\n{info}\n{hosts}'
        f'<runstats><finished time="{end}" elapsed="10" exit="success"/><hosts up="1" down="0" total="{total}"/></runstats>\n</nmaprun>\n'
    )
