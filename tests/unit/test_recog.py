"""recog's format, in small databases of our own making: params become templates, what can't be used is told, hostile XML is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.core.errors import BadInput
from processors.enrich.identifying import Identifier
from processors.enrich.recog import load_recog

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
BOMB = """<!DOCTYPE f [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><fingerprints matches="ssh.banner"><x>&b;</x></fingerprints>"""


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


def test_an_example_outside_its_folder_is_not_read(folder: Path) -> None:
    (folder / "ssh_banners.xml").write_text(SSH.replace('"long.txt"', '"../html_title.xml"'))
    assert sum(len(one.examples) for one in load_recog(folder).fingerprints) == 5


@pytest.mark.parametrize(
    "text", [BOMB, "<fingerprints", '<!DOCTYPE f SYSTEM "file:///etc/passwd"><fingerprints matches="ssh.banner"/>', ""]
)
def test_hostile_xml_is_refused(folder: Path, text: str) -> None:
    (folder / "ssh_banners.xml").write_text(text)
    with pytest.raises(BadInput, match="can't be read"):
        load_recog(folder)


def test_a_folder_without_databases_is_bad_input(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match="no recog database"):
            load_recog(folder)
