"""Keys, and issuing, amending, revoking and listing grants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.core.errors import BadInput, MissingPrerequisite, Refused
from infra.core.settings import Settings
from infra.core.trust import load_signers
from producers.auditing import Actor, audit, local_actor
from producers.grants.issuing import Desk, GrantForm, cosign_grant, create_grant, revoke_grant, show_grant
from producers.grants.keys import SigningKey, create_key, ensure_key, key_path, load_key, trust_key
from producers.grants.wording import parse_expiry, parse_window
from schemas.events.base import Event
from schemas.events.grants import Grant, Signature, Window
from schemas.events.operations import AuditRecord
from schemas.scope import Ask, GrantBook
from schemas.signing import distrust

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
FORM = GrantForm(networks=("198.18.0.0/24",), expires_at=LATER, tcp_ports="22,80-90", grant_id="lab", reason="the lab")


class Topics:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Event]] = []

    def publish(self, topic: str, key: str, event: Event) -> None:
        self.sent.append((topic, key, event))

    @property
    def grants(self) -> dict[str, Grant]:
        return {key: event for topic, key, event in self.sent if topic == "grants" and isinstance(event, Grant)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def key(settings: Settings) -> SigningKey:
    return create_key(settings, "ops", ("198.18.0.0/15",))


def desk(settings: Settings, topics: Topics) -> Desk:
    return Desk(Actor("alice", "cli@here"), load_signers(settings), ("default",), topics.grants, topics.publish)


def test_a_key_is_for_its_owner_alone_and_trusted_here(settings: Settings, key: SigningKey) -> None:
    path = key_path(settings, "ops")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    (signer,) = load_signers(settings)
    assert (signer.name, signer.public_key, signer.networks) == ("ops", key.public, ("198.18.0.0/15",))
    assert load_key(settings, "ops").public == key.public
    assert b"PRIVATE" not in (settings.data_dir / "signers.toml").read_bytes()


def test_keys_are_never_overwritten_but_ensured(settings: Settings, key: SigningKey) -> None:
    with pytest.raises(BadInput, match="already"):
        create_key(settings, "ops", ("198.18.0.0/15",))
    assert ensure_key(settings, "ops", ("198.18.0.0/15",)).public == key.public
    other = ensure_key(settings, "other", ("2001:db8::/32",))
    assert [one.name for one in load_signers(settings)] == ["ops", "other"]
    with pytest.raises(BadInput, match="another key"):
        trust_key(settings, "ops", other.public, ("198.18.0.0/15",))


def test_a_key_without_its_entry_is_mended(settings: Settings, key: SigningKey) -> None:
    (settings.data_dir / "signers.toml").unlink()
    ensure_key(settings, "ops", ("198.18.0.0/15",))
    assert [one.public_key for one in load_signers(settings)] == [key.public]


@pytest.mark.parametrize("name", ["", "../ops", "Ops", "a b", 'x"\n[[signer]]', "x" * 64])
def test_key_names_can_not_hurt(settings: Settings, name: str) -> None:
    with pytest.raises(BadInput, match="not a name"):
        create_key(settings, name, ("198.18.0.0/15",))


def test_keys_that_can_not_be_used_are_told_apart(settings: Settings, key: SigningKey) -> None:
    with pytest.raises(MissingPrerequisite, match="no signing key named 'nobody'"):
        load_key(settings, "nobody")
    path = key_path(settings, "ops")
    path.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        load_key(settings, "ops")
    path.chmod(0o600)
    path.write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="not a private key"):
        load_key(settings, "ops")
    for networks in ((), ("nonsense",), ("198.18.0.1/15",)):
        with pytest.raises(BadInput):
            create_key(settings, "fresh", networks)
    assert not key_path(settings, "fresh").exists()


def test_a_grant_is_signed_published_and_on_record(settings: Settings, key: SigningKey) -> None:
    topics = Topics()
    made = create_grant(FORM, key, desk(settings, topics), NOW)
    assert distrust(made, load_signers(settings)) is None
    assert topics.grants == {"lab": made}
    assert (made.revision, made.issued_by, made.signer, made.valid_from) == (1, "alice", "ops", NOW)
    (record,) = [event for topic, _, event in topics.sent if topic == "audit" and isinstance(event, AuditRecord)]
    assert (record.actor, record.action, record.subject, record.origin, record.at) == ("alice", "grant.create", "lab", "cli@here", NOW)
    assert "198.18.0.0/24; tcp 22,80-90" in record.detail
    book = GrantBook(load_signers(settings))
    assert book.learn(made) is None
    assert book.refusal("default", "lab", "198.18.0.7", Ask("tcp", 85), NOW) is None
    assert book.refusal("default", "lab", "198.18.0.7", Ask("tcp", 91), NOW) is not None


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (replace(FORM, networks=()), "without networks"),
        (replace(FORM, networks=("198.18.0.1/24",)), "is not a network"),
        (replace(FORM, exclusions=("198.18.7.0/28",)), "in no network of the grant"),
        (replace(FORM, exclusions=("2001:db8::/64",)), "in no network of the grant"),
        (replace(FORM, tcp_ports="70000"), "Port 70000 does not exist"),
        (replace(FORM, tcp_ports=""), "allows no port"),
        (replace(FORM, expires_at=NOW), "would have expired"),
        (replace(FORM, valid_from=LATER), "would have expired"),
        (replace(FORM, expires_at=LATER.replace(tzinfo=None)), "has no zone"),
        (replace(FORM, zones=("moon",)), "no zone 'moon'"),
        (replace(FORM, zones=()), "no zone"),
        (replace(FORM, packets_per_second=0, per_host_per_second=0), "greater than or equal to 1"),
        (replace(FORM, per_host_per_second=500), "single host"),
        (replace(FORM, windows=(Window(weekdays=(7,), from_minute=0, to_minute=60),)), "window needs weekdays"),
        (replace(FORM, windows=(Window(weekdays=(1,), from_minute=60, to_minute=60),)), "window needs weekdays"),
        (replace(FORM, grant_id="two\nlines"), "is no id for a grant"),
        (replace(FORM, packets_per_second=10**22), "less than or equal to"),
    ],
)
def test_a_wrong_form_is_not_signed(settings: Settings, key: SigningKey, form: GrantForm, part: str) -> None:
    topics = Topics()
    with pytest.raises(BadInput, match=part):
        create_grant(form, key, desk(settings, topics), NOW)
    assert topics.sent == []


def test_a_key_grants_only_its_own_networks(settings: Settings, key: SigningKey) -> None:
    topics = Topics()
    with pytest.raises(Refused, match=r"'ops' may not grant 10\.0\.0\.0/8"):
        create_grant(replace(FORM, networks=("10.0.0.0/8",)), key, desk(settings, topics), NOW)
    assert topics.sent == []


def test_amending_and_revoking_raise_the_revision(settings: Settings, key: SigningKey) -> None:
    topics = Topics()
    create_grant(FORM, key, desk(settings, topics), NOW)
    with pytest.raises(BadInput, match="already"):
        create_grant(FORM, key, desk(settings, topics), NOW)
    amended = create_grant(replace(FORM, tcp_ports="443"), key, desk(settings, topics), NOW, amend=True)
    revoked = revoke_grant("lab", key, desk(settings, topics), "done", NOW)
    assert (amended.revision, revoked.revision, revoked.revoked, revoked.reason) == (2, 3, True, "done")
    book = GrantBook(load_signers(settings))
    assert [book.learn(event) for topic, _, event in topics.sent if topic == "grants" and isinstance(event, Grant)] == [None] * 3
    assert book.refusal("default", "lab", "198.18.0.7", Ask("tcp", 443), NOW) == "grant lab was revoked"
    with pytest.raises(BadInput, match="revoked already"):
        revoke_grant("lab", key, desk(settings, topics), "again", NOW)
    with pytest.raises(BadInput, match="no grant 'other'"):
        revoke_grant("other", key, desk(settings, topics), "", NOW)
    assert [event.action for _, _, event in topics.sent if isinstance(event, AuditRecord)] == [
        "grant.create",
        "grant.amend",
        "grant.revoke",
    ]


def test_the_list_says_what_counts_and_why_not(settings: Settings, key: SigningKey) -> None:
    topics = Topics()
    for name, end in (("a", LATER), ("b", NOW + timedelta(hours=1)), ("c", LATER)):
        create_grant(replace(FORM, grant_id=name, expires_at=end), key, desk(settings, topics), NOW)
    table = dict(topics.grants)
    table["c"] = topics.grants["c"].model_copy(update={"networks": ("198.18.0.0/16",)})
    signers, later = load_signers(settings), NOW + timedelta(hours=2)
    rows = [show_grant(one, signers, ("default",), later) for _, one in sorted(table.items())]
    assert [(one.grant.grant_id, one.problem) for one in rows] == [
        ("a", None),
        ("b", "grant b expired at 2026-03-04T13:00:00+00:00"),
        ("c", "the signature of 'ops' does not fit the grant"),
    ]


def test_a_second_person_signs_the_same_revision(settings: Settings, key: SigningKey) -> None:
    topics = Topics()
    second, narrow = create_key(settings, "second", ("198.18.0.0/15",)), create_key(settings, "narrow", ("198.18.7.0/24",))
    made = create_grant(FORM, key, desk(settings, topics), NOW)
    with pytest.raises(BadInput, match="'ops' has signed"):
        cosign_grant(made, key, desk(settings, topics), NOW)
    with pytest.raises(Refused, match="'narrow' may not grant"):
        cosign_grant(made, narrow, desk(settings, topics), NOW)
    junk = made.model_copy(update={"cosignatures": (Signature(signer="second", signature="anVuaw=="),)})
    signed = cosign_grant(junk, second, desk(settings, topics), NOW)
    assert (signed.revision, [one.signer for one in signed.cosignatures]) == (1, ["second"])
    assert distrust(signed, load_signers(settings), 2) is None
    assert topics.grants["lab"] == signed
    with pytest.raises(BadInput, match="Two have signed"):
        cosign_grant(signed, narrow, desk(settings, topics), NOW)
    amended = create_grant(replace(FORM, tcp_ports="443"), key, desk(settings, topics), NOW, amend=True)
    assert amended.cosignatures == ()
    with pytest.raises(BadInput, match="another revision 2"):
        cosign_grant(made, second, desk(settings, topics), NOW)
    revoked = revoke_grant("lab", second, desk(settings, topics), "enough", NOW)
    assert distrust(revoked, load_signers(settings), 2) is None
    with pytest.raises(BadInput, match="was revoked"):
        cosign_grant(revoked, key, desk(settings, topics), NOW)


def test_a_grant_without_a_name_gets_one(settings: Settings, key: SigningKey) -> None:
    made = create_grant(replace(FORM, grant_id=""), key, desk(settings, Topics()), NOW)
    assert made.grant_id.startswith("grant-")
    assert len(made.grant_id) == 14


def test_audit_ids_are_of_the_content() -> None:
    actor = Actor("alice", "here")
    one = audit(actor, "grant.create", "lab", "", NOW)
    assert one == audit(actor, "grant.create", "lab", "", NOW)
    assert one.audit_id != audit(actor, "grant.create", "lab2", "", NOW).audit_id
    assert local_actor().name


@pytest.mark.parametrize(
    ("text", "days", "begin", "end"),
    [
        ("mon-fri 22:00-24:00", (0, 1, 2, 3, 4), 1320, 1440),
        ("Sat,Sun 00:00-24:00", (5, 6), 0, 1440),
        ("sat-mon 1:30-02:00", (0, 5, 6), 90, 120),
    ],
)
def test_windows_as_people_type_them(text: str, days: tuple[int, ...], begin: int, end: int) -> None:
    assert parse_window(text) == Window(weekdays=days, from_minute=begin, to_minute=end)


@pytest.mark.parametrize(
    "text", ["", "always", "mon 10:00-09:00", "mon 22:00-25:00", "mon 10:70-11:00", "foo 10:00-11:00", "mon-foo 10:00-11:00"]
)
def test_what_is_no_window_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="not a window"):
        parse_window(text)


def test_expiries_as_people_type_them() -> None:
    assert parse_expiry("30d", NOW) == NOW + timedelta(days=30)
    assert parse_expiry("12h", NOW) == NOW + timedelta(hours=12)
    assert parse_expiry("2027-01-31", NOW) == datetime(2027, 1, 31, tzinfo=UTC)
    assert parse_expiry("2027-01-31T18:00Z", NOW) == datetime(2027, 1, 31, 18, tzinfo=UTC)
    for text in ("", "soon", "30", "2027-13-01", "-3d"):
        with pytest.raises(BadInput, match="not a time"):
            parse_expiry(text, NOW)
