"""Rapid7's recog databases (github.com/rapid7/recog, BSD licence) as further rules, where a user has them. Nothing of them comes with us.

A file of XML is a database: `matches` names the text that it judges, each `fingerprint` has a pattern and the params that follow from it.
The patterns are Ruby's: `^` and `$` hold at every line, and all flags but REG_ICASE mean that a dot takes line ends too.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from infra.core.errors import BadInput
from processors.enrich.cpe import PLACE, from_uri, quoted
from processors.enrich.linear import MOST_BYTES as MOST_TEXT
from processors.enrich.linear import Pattern, PatternError, PatternSet
from processors.enrich.table import Rule, Table, built_in_table

MOST_BYTES = 16 << 20  # of one file; the bounds here are many times what theirs have
MOST_SECONDS = 30  # of the processor, for all files
MOST_INSTRUCTIONS = 1_000_000  # of all patterns, as RE2 compiles them; one takes 16 bytes
MOST_PARAMS = 100  # of a fingerprint
MOST_VALUE = 1024  # characters of a param, also with others filled in
MOST_DEEP = 8  # params that stand in one another
KEYS = {
    "ssh.banner": ("ssh", "bare"),
    "ftp.banner": ("ftp", "bare"),
    "smtp.banner": ("smtp", "bare"),
    "imap4.banner": ("imap", "bare"),
    "pop3.banner": ("pop3", "bare"),
    "nntp.banner": ("nntp", "bare"),
    "telnet.banner": ("telnet", "banner"),
    "http_header.server": ("http", "server"),
    "http_header.wwwauth": ("http", "www_authenticate"),
    "http_header.cookie": ("http", "cookie"),
    "http_header.x-powered-by": ("http", "powered_by"),
    "html_title": ("http", "title"),
    "rtsp_header.server": ("rtsp", "server"),
    "sip_header.server": ("sip", "server"),
    "snmp.sys_description": ("snmp", "banner"),
    "dns.versionbind": ("dns", "banner"),
    "ntp.banner": ("ntp", "banner"),
    "smb.native_os": ("smb", "banner"),
    "smb.native_lm": ("smb", "banner"),
    "ldap.search_result": ("ldap", "banner"),
    "hp.pjl.id": ("pjl", "banner"),
}
"""What a database judges, by its `matches`, as service and field; `bare` is a banner behind its protocol's own words."""
RUBY = {r"\h": "[0-9a-fA-F]", r"\H": "[^0-9a-fA-F]", r"\Z": r"\n?\z"}
PARTS = ("service", "os", "hw")  # the first that names a product says who the rule is about


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One of theirs: the rule that came of it, its params (group number and fixed value by name) and its examples with what they expect."""

    rule: Rule
    params: Mapping[str, tuple[int, str]]
    examples: tuple[tuple[bytes, Mapping[str, str]], ...]


@dataclass(frozen=True, slots=True)
class Recog:
    """What was read: fingerprints, those whose pattern RE2 can't take (with the reason), and databases that judge texts not read here."""

    fingerprints: tuple[Fingerprint, ...]
    refused: tuple[str, ...]
    others: tuple[str, ...]

    def table(self) -> Table:
        """The rules that name a vendor or a product, as a table with our services."""
        rules = tuple(one.rule for one in self.fingerprints if one.rule.vendor or one.rule.product)
        return Table("recog", rules, built_in_table().services)

    def wrong_examples(self) -> Iterator[str]:
        """Their own examples that our reading of their rules does not meet."""
        for one in self.fingerprints:
            for text, expected in one.examples:
                groups = one.rule.pattern.search(text)
                if groups is None:
                    yield f"{one.rule.name}: {text[:80]!r} does not match"
                    continue
                said = {name: groups.get(str(number), "") if number else value for name, (number, value) in one.params.items()}
                lacks = [name for name, value in expected.items() if "{" not in said.get(name, "") and said.get(name, "") != value]
                if lacks:
                    yield f"{one.rule.name}: {text[:80]!r} gives another {', '.join(lacks)}"


def load_recog(folder: Path) -> Recog:
    """Read every .xml file of a folder.

    Raises BadInput if there is none, or one is no plain file, no XML, too large, or declares entities, or their patterns take too much.
    """
    fingerprints: list[Fingerprint] = []
    refused: list[str] = []
    others: list[str] = []
    instructions, began = 0, time.process_time()
    for path in _databases(folder):
        root = _parsed(path)
        key = root.get("matches", "")
        if root.tag != "fingerprints" or key not in KEYS:
            others.append(path.name)
            continue
        for number, element in enumerate(root.findall("fingerprint"), 1):
            name = f"recog:{path.stem}:{number}"
            if instructions > MOST_INSTRUCTIONS or time.process_time() - began > MOST_SECONDS:
                raise BadInput(
                    f"{path} holds larger patterns than there is memory or time for.", "A recog database does not; leave it out."
                )
            try:
                fingerprints.append(read_fingerprint(element, name, key, path.with_suffix("")))
            except (PatternError, ValueError) as error:
                refused.append(f"{name}: {error}")
            else:
                instructions += fingerprints[-1].rule.pattern.instructions
    return Recog(tuple(fingerprints), tuple(refused), tuple(others))


def _databases(folder: Path) -> list[Path]:
    try:
        files = sorted(folder.glob("*.xml")) if folder.is_dir() else []
    except OSError as error:
        raise BadInput(f"{folder} can't be read: {error.strerror}.", "Name the folder with recog's .xml files.") from None
    if not files:
        raise BadInput(f"{folder} holds no recog database.", "Name the folder with recog's .xml files, its 'xml' folder.")
    return files


def read_fingerprint(element: Element, name: str, key: str, folder: Path) -> Fingerprint:
    """One fingerprint; examples that are files lie in `folder`, which bears the database's name.

    Raises PatternError if RE2 can't take its pattern, ValueError for what is otherwise unsound.
    """
    params = {one.get("name", ""): (int(one.get("pos", "0")), one.get("value", "")) for one in element.findall("param")}
    if len(params) > MOST_PARAMS:
        raise ValueError(f"it has more than {MOST_PARAMS} params")
    made: dict[str, str] = {}
    service, field = KEYS[key]
    about = next((part for part in PARTS if f"{part}.product" in params or f"{part}.vendor" in params), PARTS[0])
    uri = params.get(f"{about}.cpe23", (0, ""))[1]
    pattern = Pattern(translated(element.get("pattern", ""), element.get("flags", "")))
    PatternSet([pattern])  # raises PatternError for one that could not be asked with the others later
    rule = Rule(
        name,
        service,
        field,
        pattern,
        vendor=_template(params, f"{about}.vendor", made),
        product=_template(params, f"{about}.product", made),
        version=_template(params, f"{about}.version", made),
        cpe=_cpe(uri, params, made) if uri else "",
    )
    return Fingerprint(rule, params, tuple(_examples(element, folder)))


def translated(pattern: str, flags: str) -> str:
    """A pattern of theirs as RE2 takes it."""
    letters = {"i" if flag.strip() == "REG_ICASE" else "s" for flag in flags.split(",") if flag.strip()}
    plain = re.sub(r"\\.", lambda found: RUBY.get(found[0], found[0]), pattern, flags=re.DOTALL)
    return f"(?{''.join(sorted(letters | {'m'}))}){plain}"


def _parsed(path: Path) -> Element:
    """Raises BadInput, with what is wrong."""
    raw = _read(path, MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise BadInput(f"{path} is larger than {MOST_BYTES >> 20} MiB.", "A recog database is not; leave it out.")
    try:
        root: Element = fromstring(raw, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # LookupError: an encoding that there is not
        reason = "it declares a DTD or entities" if isinstance(error, DefusedXmlException) else str(error)
        raise BadInput(f"{path} can't be read: {reason}.", "A recog database is plain XML without a DTD or entities.") from None
    return root


def _read(path: Path, most: int) -> bytes:
    """The first bytes of a plain file. Raises BadInput for anything else: a pipe, on which reading would wait for ever, or a folder."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadInput(f"{path} can't be read: it is no plain file.", "Leave it out of the folder with recog's .xml files.")
            return file.read(most)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.", "Leave it out of the folder with recog's .xml files.") from None


def _template(params: Mapping[str, tuple[int, str]], name: str, made: dict[str, str], deep: int = 0) -> str:
    """A param as a template of ours; braces in a fixed value stand for other params. `made` holds those that are made: each is made once.

    Raises ValueError for one that is too long, or stands in itself.
    """
    if name not in made:
        number, value = params.get(name, (0, ""))
        if deep > MOST_DEEP:
            raise ValueError(f"its params stand in one another in a circle, or more than {MOST_DEEP} deep")
        if len(value) <= MOST_VALUE:
            value = f"{{{number}}}" if number else PLACE.sub(lambda place: _template(params, place[1], made, deep + 1), value)
        if len(value) > MOST_VALUE:
            raise ValueError(f"its param {name[:80]} is longer than {MOST_VALUE} characters")
        made[name] = value
    return made[name]


def _cpe(uri: str, params: Mapping[str, tuple[int, str]], made: dict[str, str]) -> str:
    if len(uri) > MOST_VALUE:
        raise ValueError(f"its CPE name is longer than {MOST_VALUE} characters")

    def fill(value: str) -> str:
        whole = PLACE.sub(lambda place: _template(params, place[1], made), value)
        pieces = re.split(r"(\{\d+\})", whole)
        return "".join(piece if PLACE.fullmatch(piece) else quoted(piece) for piece in pieces if piece) or "*"

    return from_uri(uri, fill)


def _examples(element: Element, folder: Path) -> Iterator[tuple[bytes, dict[str, str]]]:
    for one in element.findall("example"):
        expected = {name: value for name, value in one.attrib.items() if not name.startswith("_")}
        text = (one.text or "").encode()
        if one.get("_encoding") == "base64":
            try:
                text = base64.b64decode(text)
            except binascii.Error as error:
                raise ValueError(f"an example is no base64: {error}") from None
        file = one.get("_filename")
        text = text[:MOST_TEXT] if file is None else _example_file(folder, file)
        if file is None or text:
            yield text, expected


def _example_file(folder: Path, name: str) -> bytes:
    """The file's beginning, which is all that a pattern sees; b"" where it is missing, not in the folder, or no plain file."""
    try:
        path = (folder / name).resolve()
        return _read(path, MOST_TEXT) if path.is_relative_to(folder.resolve()) else b""
    except (BadInput, OSError, RuntimeError):  # RuntimeError: links in a circle
        return b""
