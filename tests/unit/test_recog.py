"""recog's format, in small databases of our own making: params become templates, what can't be used is told, hostile XML is refused."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.core.errors import BadInput
from processors.enrich import recog
from processors.enrich.identifying import Identifier
from processors.enrich.recog import MOST_BYTES, MOST_VALUE, load_recog

SSH = r"""<?xml version="1.0" encoding="UTF-8"?>
<fingerprints matches="ssh.banner" protocol="ssh" database_type="service">
  <fingerprint pattern="^AcmeSSH_([\d.]+)(?:-(\w+))?$">
    <description>Acme</description>
    <example service.version="1.2">AcmeSSH_1.2</example>
    <example _encoding="base64" service.version="3">QWNtZVNTSF8zLWI=</example>
    <example _filename="long.txt" service.version="4"/>
    <param pos="0" name="service.vendor" value="Acme"/>
    <param pos="0" name="service.product" value="Acme {service.component} daemon"/>
    <param pos="0" name="service.component" value="SSH"/>
    <param pos="1" name="service.version"/>
    <param pos="0" name="service.cpe23" value="cpe:/a:acme:ssh-daemon:{service.version}"/>
  </fingerprint>
  <fingerprint pattern="^ACMEOS\h+$" flags="REG_ICASE">
    <description>only an operating system</description>
    <example>acmeos0f</example>
    <param pos="0" name="os.vendor" value="Acme"/>
    <param pos="0" name="os.product" value="OS"/>
    <param pos="0" name="os.cpe23" value="cpe:/o:acme:os:-"/>
  </fingerprint>
  <fingerprint pattern="^(?!Acme)x(a)\1"><description>not linear</description></fingerprint>
  <fingerprint pattern="^nobody$"><description>names nobody</description></fingerprint>
</fingerprints>
"""
TITLE = """<fingerprints matches="html_title"><fingerprint pattern="^Acme.box$" flags="REG_DOT_NEWLINE,REG_ICASE">
<example>ACME
box</example><example>Other</example><param pos="0" name="hw.product" value="Box"/></fingerprint></fingerprints>"""
LAUGHS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha" * 10}">' for n in range(10))
BOMB = f"""<!DOCTYPE f [{LAUGHS}]><fingerprints matches="ssh.banner"><x>&e9;</x></fingerprints>"""
OUTSIDE = """<!DOCTYPE f [<!ENTITY a SYSTEM "file:///etc/hostname">]><fingerprints matches="ssh.banner"><x>&a;</x></fingerprints>"""
DTD = """<!DOCTYPE f SYSTEM "file:///etc/hostname"><fingerprints matches="ssh.banner"/>"""


def database(*fingerprints: str) -> str:
    """A database of SSH banners."""
    return f'<fingerprints matches="ssh.banner">{"".join(fingerprints)}</fingerprints>'


def fingerprint(params: dict[str, str], pattern: str = "^x$") -> str:
    """A fingerprint whose params have these values."""
    told = "".join(f'<param pos="0" name="{name}" value="{value}"/>' for name, value in params.items())
    return f'<fingerprint pattern="{pattern}">{told}</fingerprint>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ssh_banners.xml").write_text(SSH)
    (tmp_path / "html_title.xml").write_text(TITLE)
    (tmp_path / "favicons.xml").write_text('<fingerprints matches="favicon.md5"/>')
    (tmp_path / "ssh_banners").mkdir()
    (tmp_path / "ssh_banners" / "long.txt").write_bytes(b"AcmeSSH_4")
    return tmp_path


def test_rules_name_what_their_params_say(folder: Path) -> None:
    identifier = Identifier(load_recog(folder).table())
    found = identifier.best({"banner": b"SSH-2.0-AcmeSSH_1.2"}, identifier.groups("ssh", None))
    assert found is not None
    assert (found.rule, found.vendor, found.product, found.version) == ("recog:ssh_banners:1", "Acme", "Acme SSH daemon", "1.2")
    assert found.cpe == r"cpe:2.3:a:acme:ssh-daemon:1.2:*:*:*:*:*:*:*"
    system = identifier.best({"banner": b"SSH-2.0-acmeosBEEF"}, (("ssh",),))
    assert system is not None
    assert (system.product, system.cpe) == ("OS", "cpe:2.3:o:acme:os:-:*:*:*:*:*:*:*")
    box = identifier.best({"title": b"acme\nbox"}, identifier.groups("https", None))
    assert box is not None
    assert (box.vendor, box.product) == ("", "Box")
    assert identifier.best({"banner": b"nobody"}, (("ssh",),)) is None


def test_what_can_not_be_used_is_told(folder: Path) -> None:
    read = load_recog(folder)
    assert len(read.fingerprints) == 4
    assert [one.partition(": ")[0] for one in read.refused] == ["recog:ssh_banners:3"]
    assert read.others == ("favicons.xml",)


def test_their_own_examples_are_tests_of_our_reading(folder: Path) -> None:
    read = load_recog(folder)
    assert sum(len(one.examples) for one in read.fingerprints) == 6
    assert list(read.wrong_examples()) == ["recog:html_title:1: b'Other' does not match"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (BOMB, "DTD or entities"),
        (OUTSIDE, "DTD or entities"),
        (DTD, "DTD or entities"),
        ("<fingerprints", "unclosed token"),
        ("", "no element found"),
        ('<?xml version="1.0" encoding="nonsense"?><fingerprints/>', "unknown encoding: nonsense"),
        ('<?xml version="1.0" encoding="base64"?><fingerprints/>', "not a text encoding"),
        ('<?xml version="1.0" encoding="utf-7"?><fingerprints/>', "multi-byte"),
        ("<!-- -->" * (MOST_BYTES // 8) + "<a/>", "larger than 16 MiB"),
    ],
    ids=lambda text: text[:40],
)
def test_hostile_xml_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "one.xml").write_text(text)
    with pytest.raises(BadInput, match=f"one.xml .*{wrong}"):
        load_recog(tmp_path)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.xml"
    kinds: list[tuple[Callable[[], object], Callable[[], object], str]] = [
        (lambda: os.mkfifo(path), path.unlink, "no plain file"),
        (lambda: path.symlink_to("/dev/zero"), path.unlink, "no plain file"),
        (lambda: path.symlink_to(tmp_path / "none"), path.unlink, "No such file"),
        (lambda: path.symlink_to(path), path.unlink, "symbolic links"),
        (path.mkdir, path.rmdir, "directory"),
    ]
    for make, remove, wrong in kinds:
        make()
        with pytest.raises(BadInput, match=f"one.xml can't be read: .*({wrong})"):
            load_recog(tmp_path)
        remove()


@pytest.mark.parametrize("file", ["../html_title.xml", "/etc/hostname", "pipe", "out", "round", "n" * 5000, "."])
def test_an_example_that_is_no_plain_file_of_its_folder_is_not_read(folder: Path, file: str) -> None:
    own = folder / "ssh_banners"
    os.mkfifo(own / "pipe")
    (own / "out").symlink_to("/etc/hostname")
    (own / "round").symlink_to(own / "round")
    (folder / "ssh_banners.xml").write_text(SSH.replace("long.txt", file))
    assert sum(len(one.examples) for one in load_recog(folder).fingerprints) == 5


NAMES = ("service.product", *(f"p{number}" for number in range(1, 60)))
ALL_OTHERS = {name: "".join(f"{{{other}}}" for other in NAMES[1:] if other != name) for name in NAMES}
DOUBLED = {name: f"{{{after}}}" * 2 for name, after in itertools.pairwise(NAMES[:9])} | {NAMES[8]: "a" * 10}
CHAIN = {name: f"{{{after}}}" for name, after in itertools.pairwise(NAMES[:51])}


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (ALL_OTHERS, "circle"),
        ({"service.product": "{service.product}"}, "circle"),
        (CHAIN, "circle, or more than 8 deep"),
        (DOUBLED, "longer than 1024"),
        ({"service.product": "a" * (MOST_VALUE + 1)}, "longer than 1024"),
        ({"service.product": "a", "service.cpe23": "cpe:/a:" + "{p1}" * 400}, "longer than 1024"),
        ({f"p{number}": "a" for number in range(101)}, "more than 100 params"),
    ],
)
def test_params_that_grow_without_bound_are_refused(tmp_path: Path, params: dict[str, str], wrong: str) -> None:
    (tmp_path / "one.xml").write_text(database(fingerprint(params), fingerprint({"service.product": "sound"})))
    began = time.process_time()
    read = load_recog(tmp_path)
    assert time.process_time() - began < 1
    assert len(read.refused) == len(read.fingerprints) == 1
    assert wrong in read.refused[0]


def test_patterns_that_take_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.xml"
    path.write_text(database(*[fingerprint({"service.product": "a"}, r"\w{1000}")] * 400))
    with pytest.raises(BadInput, match="larger patterns"):
        load_recog(tmp_path)
    path.write_text(database(*[fingerprint({"service.product": "a"}, "x" * 5000)] * 3))
    assert len(load_recog(tmp_path).refused) == 3
    path.write_text(database(fingerprint({"service.product": "a"}, r"[^a]{1000}" * 170)))
    assert "too large to be asked with others" in load_recog(tmp_path).refused[0]
    monkeypatch.setattr(recog, "MOST_SECONDS", 0)
    with pytest.raises(BadInput, match="larger patterns"):
        load_recog(tmp_path)


def test_fingerprints_within_one_another_are_not_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(database("<fingerprint>" * 20_000 + "<param/>" * 20_000 + "</fingerprint>" * 20_000))
    began = time.process_time()
    assert len(load_recog(tmp_path).fingerprints) == 1
    assert time.process_time() - began < 1


def test_a_folder_without_databases_is_bad_input(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match="no recog database"):
            load_recog(folder)
