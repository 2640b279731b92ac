"""Each feed's form: what is read of it, what of hostile or half-wrong ones is refused, and where it is said to have broken."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producers.intel import opening
from producers.intel.feeds import BY_NAME, statements
from producers.intel.joining import feeds_in, join, split
from producers.intel.spool import Spool
from producers.intel.statements import FeedError, Fields, Rejected
from schemas.codec import Codec
from schemas.plain import Plain
from tests.feeds import DAY, HTTPD, REAL_CVES, REAL_KEV, cve, epss, kev, lines, match, nvd, nvd_cve, read

CODEC = Codec()
NOW_MS = 1_800_000_000_000


def one(feed: str, content: bytes, folder: Path) -> Fields:
    (found,) = read(feed, content, folder)
    assert isinstance(found, dict)
    CODEC.decode("intel", CODEC.encode("intel", Plain("IntelRecord", found)))  # whatever is read is a sound record
    return found


def test_kev(tmp_path: Path) -> None:
    found = one("kev", kev(), tmp_path)
    assert (found["cve"], found["kev"], found["kev_ransomware"], found["epss"]) == (HTTPD, True, True, None)
    assert found["affected"][0]["source"] == "kev"
    assert found["affected"][0]["versions"] == []


def test_kev_whose_ransomware_use_is_unknown_does_not_say_no(tmp_path: Path) -> None:
    assert one("kev", kev().replace(b'"Known"', b'"Unknown"'), tmp_path)["kev_ransomware"] is None


def test_epss(tmp_path: Path) -> None:
    found = one("epss", epss({HTTPD: 0.94}), tmp_path)
    assert (found["epss"], found["epss_percentile"], found["epss_model"], found["kev"]) == (0.94, 0.47, "made-up", None)


def test_a_cve_record_with_its_ssvc_and_who_says_what(tmp_path: Path) -> None:
    found = one("cve", lines(cve()), tmp_path)
    assert (found["ssvc_exploitation"], found["ssvc_automatable"], found["ssvc_technical_impact"]) == ("active", "yes", "total")
    assert (found["cvss"], found["title"]) == (7.5, "Path traversal")
    assert [source["name"] for source in found["sources"]] == ["cve", "CISA-ADP"]
    assert found["affected"][0]["versions"][0]["less_than"] == "2.4.51"


def test_a_record_over_many_lines_is_one_too(tmp_path: Path) -> None:
    assert len(read("cve", json.dumps(cve(), indent=2).encode(), tmp_path)) == 1


def test_an_adp_container_cannot_pass_for_another_feed(tmp_path: Path) -> None:
    record = cve()
    record["containers"]["adp"][0]["providerMetadata"]["shortName"] = "nvd"
    assert feeds_in(one("cve", lines(record), tmp_path)) == {"cve"}


def test_rejected_records(tmp_path: Path) -> None:
    assert isinstance(read("cve", lines(cve(state="REJECTED")), tmp_path)[0], Rejected)
    assert isinstance(read("nvd", nvd(nvd_cve(status="Rejected")), tmp_path)[0], Rejected)


def test_nvd_ranges_with_each_kind_of_end(tmp_path: Path) -> None:
    bounds: tuple[dict[str, Any], ...] = (
        {"versionStartIncluding": "2.4.0", "versionEndExcluding": "2.4.51"},
        {"versionStartExcluding": "2.2.0", "versionEndIncluding": "2.2.34"},
        {"versionStartIncluding": "3.0"},
    )
    node = {"operator": "OR", "negate": False, "cpeMatch": [match(**one) for one in bounds] + [match("2.0.1")]}
    (product,) = one("nvd", nvd(nvd_cve(configurations=[{"nodes": [node]}])), tmp_path)["affected"]
    spans = [(span["version"], span["after"], span["less_than"], span["less_than_or_equal"]) for span in product["versions"]]
    assert spans == [("2.4.0", False, "2.4.51", ""), ("2.2.0", True, "", "2.2.34"), ("3.0", False, "*", ""), ("2.0.1", False, "", "")]
    assert (product["vendor"], product["product"], product["default_status"]) == ("apache", "http_server", "unaffected")


def test_nvd_running_on_a_platform(tmp_path: Path) -> None:
    weak = {"operator": "OR", "cpeMatch": [match(versionEndExcluding="2.4.51")]}
    platform = {"operator": "OR", "cpeMatch": [match("-", vulnerable=False, name="o:microsoft:windows")]}
    found = one("nvd", nvd(nvd_cve(configurations=[{"operator": "AND", "nodes": [weak, platform]}])), tmp_path)
    (product,) = found["affected"]
    assert product["platforms"] == ["cpe:2.3:o:microsoft:windows:-:*:*:*:*:*:*:*"]
    either = one("nvd", nvd(nvd_cve(configurations=[{"operator": "OR", "nodes": [weak, platform]}])), tmp_path)
    assert either["affected"][0]["platforms"] == []


def test_nvd_updates_of_a_version_and_escaped_names(tmp_path: Path) -> None:
    criteria = [
        {"vulnerable": True, "criteria": r"cpe:2.3:a:open\:bsd:openssh:7.2:p2:*:*:*:*:*:*"},
        {"vulnerable": True, "criteria": r"cpe:2.3:a:open\:bsd:openssh:8.0:rc1:*:*:*:*:*:*"},
    ]
    (product,) = one("nvd", nvd(nvd_cve(configurations=[{"nodes": [{"cpeMatch": criteria}]}])), tmp_path)["affected"]
    assert [span["version"] for span in product["versions"]] == ["7.2p2", "8.0-rc1"]
    assert product["vendor"] == "open:bsd"


def test_nvd_prefers_its_own_score(tmp_path: Path) -> None:
    assert [score["source"] for score in one("nvd", nvd(nvd_cve()), tmp_path)["scores"]] == ["nvd"]


def deep(levels: int = 100_000) -> bytes:
    return b'{"a":' * levels


BROKEN: list[tuple[str, bytes, str]] = [
    ("kev", kev(count=2), "names 2 entries and has 1"),
    ("kev", kev()[:-20], "line 1: .*cut"),
    ("kev", kev() + b"{}", "something follows"),
    ("kev", kev().replace(b'"cveID": "CVE', b'"cveID": "XVE'), "vulnerabilities.0..cveID is no CVE"),
    ("kev", kev().replace(b'"Apache"', b"7"), r"vulnerabilities\[0\] \(CVE-2021-41773\).vendorProject is 7, not text"),
    ("kev", kev().replace(b'"title": "KEV"', b'"title": NaN'), "NaN is no number"),
    ("kev", kev().replace(b'"title": "KEV"', b'"title": 1, "title": 2'), "not expected: 'title'"),
    ("kev", kev().replace(b'"product"', b'"cveID": "CVE-2021-1", "product"'), "'cveID' stands twice"),
    ("kev", kev().replace(b"2021-11-03", b"2021-13-03"), "dateAdded is no time"),
    ("kev", kev().replace(b"2021-11-03", b"9999-11-03"), "not between 1970"),
    ("kev", kev(dateReleased=None), "dateReleased is missing"),
    ("kev", kev(vulnerabilities={}), "here should be one of"),
    ("kev", b"[]", "here should be one of"),
    ("kev", b"", "cut"),
    ("kev", b"\xff\xfe" + kev(), "not UTF-8"),
    ("kev", deep(), "RecursionError"),
    ("epss", b"cve,epss,percentile\nCVE-2021-1,0.1,0.1\n", "line 1 is not"),
    ("epss", epss({HTTPD: 0.5}).replace(b"cve,epss", b"cve,score"), "line 2 is not"),
    ("epss", epss({HTTPD: 0.5}).rstrip(b"\n"), "was cut"),
    ("epss", epss({}), "no score follows"),
    ("epss", epss({HTTPD: 0.5}) + b"CVE-2021-0002,nan,0.1\n", "line 4 is not a CVE and two numbers"),
    ("epss", epss({HTTPD: 0.5}) + b"CVE-2021-0002,1.1,0.1\n", "line 4: a score is above 1"),
    ("epss", epss({HTTPD: 0.5}) + b"CVE-2021-0002,-0.1,0.1\n", "line 4 is not"),
    ("epss", epss({HTTPD: 0.5}) + b"CVE-2021-0002,1e999,0.1\n", "line 4 is not"),
    ("epss", epss({HTTPD: 0.5}) + b"CVE-2021-0002,0_1,0.1\n", "line 4 is not"),
    ("epss", epss({HTTPD: 0.5}) + b"x" * (10 << 20) + b"\n", "a line has more than"),
    ("epss", epss({HTTPD: 0.5}).replace(DAY.encode(), b"2026-02-31"), "score_date is no time"),
    ("cve", lines(cve(), cve("CVE-2021-2222"))[:-30], "line 2: .*cut"),
    ("cve", lines(cve(), {"dataType": "CVE_RECORD", "dataVersion": "4.0"}), "line 2 is no CVE record of version 5"),
    ("cve", lines(cve(affected="all")), "affected is 'all', not a list"),
    ("cve", lines(cve(affected=["all"])), r"affected\[0\] is 'all', not an object"),
    ("cve", lines(cve(affected=[{"versions": [{"version": 1}]}])), r"versions\[0\].version is 1, not text"),
    ("cve", lines(cve(affected=[{"versions": [{"status": "maybe"}]}])), "status is 'maybe'"),
    ("cve", lines(cve(affected=[{}] * 20_001)), "20001 items"),
    ("cve", lines(cve(affected=[{"vendor": "x" * 5000}])), "5000 characters"),
    ("cve", lines(cve(metrics=[{"cvssV3_1": {"baseScore": 11}}])), "baseScore is 11, not a number from 0 to 10"),
    ("cve", lines(cve(metrics=[{"cvssV3_1": {"baseScore": True}}])), "baseScore is True"),
    ("cve", lines(cve()).replace(b"7.5", b"1e999"), "baseScore is inf"),
    ("cve", lines(cve()).replace(b"7.5", b"9" * 5000), "line 1: ValueError"),
    ("cve", lines(cve(title="x")).replace(b'"x"', b'"' + b"x" * (10 << 20) + b'"'), "more than 8388608 characters"),
    ("cve", lines(cve(state="RESERVED")), "state is 'RESERVED'"),
    ("cve", b"\n\n", "holds no record"),
    ("nvd", nvd(nvd_cve(), resultsPerPage=2), "has 2 of 1 entries and has 1"),
    ("nvd", nvd(nvd_cve(), format="NVD_CPE"), "format is NVD_CVE"),
    ("nvd", nvd({**nvd_cve(), "lastModified": ""}), "lastModified is missing"),
    ("nvd", nvd(nvd_cve(configurations=[{"nodes": [{"cpeMatch": [{"vulnerable": True, "criteria": "cpe:/a:b:c"}]}]}])), "no CPE 2.3 name"),
    ("nvd", nvd(nvd_cve(configurations=[{"nodes": [{"operator": "XOR", "cpeMatch": [match()]}]}])), "not AND or OR"),
    (
        "nvd",
        nvd(nvd_cve(configurations=[{"nodes": [{"cpeMatch": [match(versionEndIncluding="1", versionEndExcluding="2")]}]}])),
        "includes and excludes",
    ),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("feed", "content", "reason"), BROKEN, ids=[f"{feed}-{reason[:24]}" for feed, _, reason in BROKEN])
def test_a_broken_feed_is_refused_and_says_where(feed: str, content: bytes, reason: str, packed: bool, tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=reason):
        read(feed, content, tmp_path, packed)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


@pytest.mark.parametrize("harm", [cut, flipped])
def test_a_damaged_gzip_file_is_refused(harm: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "kev.json.gz"
    path.write_bytes(harm(gzip.compress(kev([f"CVE-2021-{number}" for number in range(1000, 3000)]))))
    with pytest.raises(FeedError):
        list(statements(BY_NAME["kev"], path))


def test_a_gzip_bomb_is_refused_after_little_of_it(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"\n" * (64 << 20), 9))
    texts = opening.open_feed(path, BY_NAME["epss"].files, 1 << 30)
    opened = next(texts)
    sizes: list[int] = []
    with pytest.raises(FeedError, match="a bomb"):
        sizes.extend(len(chunk) for chunk in opened.chunks)
    assert sum(sizes) <= opening.FREE


def packed_records(path: Path, records: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def test_a_zip_like_cvelist_and_a_folder(tmp_path: Path) -> None:
    names = [f"CVE-2024-{number}" for number in (1000, 1001)]
    files = {f"cvelistV5-main/cves/2024/1xxx/{name}.json": json.dumps(cve(name), indent=2).encode() for name in names}
    path = packed_records(tmp_path / "main.zip", {**files, "cvelistV5-main/cves/delta.json": b"{}", "cvelistV5-main/README.md": b"#"})
    found = [dict(said)["cve"] for said in statements(BY_NAME["cve"], path) if isinstance(said, dict)]
    assert sorted(found) == names
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "tree")
    assert len(list(statements(BY_NAME["cve"], tmp_path / "tree"))) == 2


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = packed_records(tmp_path / "bomb.zip", {"CVE-2024-1000.json": b" " * (64 << 20)})
    with pytest.raises(FeedError, match="a bomb"):
        next(statements(BY_NAME["cve"], path))


def test_what_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_bytes(epss({f"CVE-2024-{number}": 0.5 for number in range(1000, 9000)}))
    texts = opening.open_feed(path, BY_NAME["epss"].files, 100_000)
    opened = next(texts)
    with pytest.raises(FeedError, match="more than 0 MB"):
        list(opened.chunks)


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100])
def test_a_cut_zip_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(content)
    with pytest.raises(FeedError, match="cut, damaged"):
        list(statements(BY_NAME["cve"], path))


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_a_byte_changed_is_read_or_refused(packing: int, tmp_path: Path) -> None:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("a/CVE-2024-1000.json", lines(cve("CVE-2024-1000")))
        archive.writestr("a/b\u00e9/CVE-2024-1001.json", lines(cve("CVE-2024-1001")))
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            list(statements(BY_NAME["cve"], path))
        except (FeedError, OSError):
            refused += 1
    assert refused > len(content) / 2


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_packed_by_what_unpacks_without_a_limit_is_refused(packing: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("CVE-2024-1000.json", lines(cve("CVE-2024-1000")))
    with pytest.raises(FeedError, match="not packed by deflate"):
        next(statements(BY_NAME["cve"], path))


def test_the_place_in_a_zip_is_named(tmp_path: Path) -> None:
    path = packed_records(tmp_path / "some.zip", {"a/CVE-2024-1000.json": lines(cve("CVE-2024-1000")), "a/CVE-2024-1001.json": b"{"})
    with pytest.raises(FeedError, match=r"a/CVE-2024-1001.json: line 1"):
        list(statements(BY_NAME["cve"], path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (epss({HTTPD: 0.5}) + epss({HTTPD: 0.4}).splitlines()[-1] + b"\n", "stands in it twice"),
        (epss({HTTPD: 0.5}, "2099-01-01"), "dated in the future"),
    ],
)
def test_a_spool_takes_each_cve_once_and_nothing_from_the_future(content: bytes, reason: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path, CODEC)
    with pytest.raises(FeedError, match=reason):
        spool.fill(read("epss", content, tmp_path), NOW_MS)
    spool.close()


def test_text_that_is_no_text_is_refused_by_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, CODEC)
    with pytest.raises(FeedError, match="can't be written"):
        spool.fill(read("cve", lines(cve(title="\ud800")), tmp_path), NOW_MS)
    spool.close()


@pytest.mark.skipif(not REAL_CVES.exists(), reason="the real CVE records are not beside this checkout (shared/data)")
def test_the_1200_real_records_are_read_and_come_apart_again(tmp_path: Path) -> None:
    found = [said for said in statements(BY_NAME["cve"], REAL_CVES) if isinstance(said, dict)]
    assert len(found) == 1200
    assert all(said["ssvc_exploitation"] and said["ssvc_automatable"] and said["ssvc_technical_impact"] for said in found)
    spool = Spool(tmp_path, CODEC)
    spool.fill(found, NOW_MS)
    assert list(spool) == found
    spool.close()
    assert all(join(split(said).values()) == said for said in found)


@pytest.mark.skipif(not REAL_KEV.exists(), reason="the real KEV catalogue is not beside this checkout (shared/data)")
def test_the_real_catalogue_is_read() -> None:
    found = [said for said in statements(BY_NAME["kev"], REAL_KEV) if isinstance(said, dict)]
    assert len(found) == 1252
    assert sum(said["kev_ransomware"] is True for said in found) > 100
