"""One key for a product, however a CVE record, a CPE name or a banner calls it. Pure.

A key is `vendor:product`, both without blanks and signs: `apache:httpserver` for "Apache Software Foundation", "Apache HTTP Server" and for
`cpe:2.3:a:apache:http_server`. Where names truly differ, `aliases.toml` says which are the same.
"""

from __future__ import annotations

import functools
import re
import tomllib
from importlib.resources import files

from processors.enrich.cpe import PREFIX, VALUE

WORDS = re.compile(r"[a-z0-9+]+")
LEGAL = frozenset(
    "inc incorporated corp corporation ltd limited llc gmbh ag sa co company software foundation project group the organization".split()  # noqa: SIM905
)
"""Words of a vendor's name that some sources have and others leave out."""
UNKNOWN = frozenset(("", "n/a", "na", "unknown", "unspecified", "*", "-"))
VAGUE = frozenset(
    "server software firmware router httpserver webserver core agent engine gateway manager client product library".split()  # noqa: SIM905
)
"""Names that many vendors' products have: without a vendor they say nothing."""
SHIPPERS = frozenset(
    ("debian", "canonical", "redhat", "fedoraproject", "suse", "opensuse", "centos", "almalinux", "rockylinux", "amazon", "linux")
)
OPERATING = frozenset(
    "debianlinux debian ubuntulinux ubuntu fedora leap opensuse centos almalinux rockylinux linux".split()  # noqa: SIM905
)
EDITIONS = ("enterpriselinux", "linuxenterprise", "suselinux", "rhel", "opensuse", "leap", "ubuntu", "debian")
MOST = 128  # characters of a name
ANY_VENDOR = "*"


@functools.cache
def _aliases() -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    read = tomllib.loads(files("processors.match").joinpath("aliases.toml").read_text())
    return read["vendors"], read["products"], read["packages"]


@functools.lru_cache(maxsize=1 << 14)
def product_key(vendor: str, product: str) -> str:
    """The key of a product by the words of its vendor and its own; `*:product` where the vendor is not known; '' for no product."""
    if product.strip().lower() in UNKNOWN:
        return ""
    maker = vendor_key(vendor)
    words = WORDS.findall(product[:MOST].lower())
    for count in (1, 2, 3):
        if maker != ANY_VENDOR and len(words) > count and vendor_key(" ".join(words[:count])) == maker:
            words = words[count:]  # "Apache HTTP Server" of Apache, "Palo Alto Networks PAN-OS" of Palo Alto Networks
            break
    if len(words) > 1 and words[-1] == "software":
        words.pop()
    name = "".join(words)
    if not name or (maker == ANY_VENDOR and name in VAGUE):
        return ""
    key = f"{maker}:{name}"
    return _aliases()[1].get(key, key)


@functools.lru_cache(maxsize=1 << 14)
def vendor_key(vendor: str) -> str:
    """The vendor without what is left out now and then; `*` for none."""
    if vendor.strip().lower() in UNKNOWN:
        return ANY_VENDOR
    words = WORDS.findall(vendor[:MOST].lower())
    kept = [word for word in words if word not in LEGAL] or words
    name = "".join(kept)
    return _aliases()[0].get(name, name) or ANY_VENDOR


@functools.lru_cache(maxsize=1 << 14)
def cpe_parts(name: str) -> tuple[str, str, str, str] | None:
    """Part, vendor, product and version with its update of a CPE name, 2.2 or 2.3 (NISTIR 7695), unquoted; None for what is none."""
    if name.startswith(PREFIX):
        values = VALUE.findall(name[len(PREFIX) :][: MOST * 4])
    elif name.startswith("cpe:/"):
        values = [_percent(value) for value in name[len("cpe:/") :][: MOST * 4].split(":")]
    else:
        return None
    if len(values) < 3 or values[0] not in ("a", "o", "h"):
        return None
    plain = [value.replace("\\", "") for value in values[:5]] + ["", ""]
    version, update = ("" if value in ("*", "-") else value for value in plain[3:5])
    return plain[0], plain[1], plain[2], version + update


def _percent(value: str) -> str:
    return re.sub(r"%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), value)


def is_distribution(key: str) -> bool:
    """Whether a key names a distribution as a whole: that it ships an affected package says nothing of one service."""
    vendor, _, product = key.partition(":")
    return product in OPERATING or key == "linux:kernel" or (vendor in SHIPPERS and product.startswith(EDITIONS))


def packages_of(key: str) -> tuple[str, ...]:
    """What distributions call the packages of a product."""
    return tuple(_aliases()[2].get(key, ())) or (key.partition(":")[2],)


def package_key(distribution: str, name: str) -> str:
    """The key of a distribution's package: `debian/openssh`, without signs as products have none."""
    return f"{distribution}/{''.join(WORDS.findall(name[:MOST].lower()))}"


@functools.lru_cache(maxsize=1 << 14)
def names_of(key: str) -> tuple[str, ...]:
    """Names of the products that a key of a record may mean, without vendors: of `debian/bind9` it is `bind`, of `*:redis` `redis`."""
    distribution, slash, package = key.partition("/")
    if not slash:
        return (key.partition(":")[2],)
    others = [own for own, packages in _aliases()[2].items() if key in (package_key(distribution, name) for name in packages)]
    return tuple(dict.fromkeys((package, *(own.partition(":")[2] for own in others))))
