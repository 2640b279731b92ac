"""The planner as a step: one run a request, whatever the request; the grants as the table shows them."""

from __future__ import annotations

import base64
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.errors import BadInput, Poison
from infra.core.ports import Context, Emit, FixedTables, MemoryState, Record
from infra.core.settings import PlannerSettings, ScopeSettings, Settings, Signer
from processors.plan.planning import Limits
from processors.plan.role import Planner, Trust, make_step
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Grant
from schemas.events.operations import Tick
from schemas.events.targets import Run, TargetRequest, WorkUnit
from schemas.signing import TrustedSigner, cosign
from tests.grant_examples import NOW, PUBLIC, SIGNER, grant

LIMITS = Limits(("default",), frozenset({80}), 1 << 20, 60, timedelta(hours=1), 1000, 40, 2)


def record(event: Event | None) -> Record:
    return Record("targets", 0, 0, NOW, "", event)


def context(*grants: Grant) -> Context:
    return Context(0, 3, MemoryState(), FixedTables({"grants": {one.grant_id: one for one in grants}}))


def planner(resolved: dict[str, tuple[str, ...]] | None = None) -> Planner:
    def resolve(_: str, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        return {name: found for name, found in (resolved or {}).items() if name in names}

    return Planner(LIMITS, lambda: (SIGNER,), resolve)


def request(*targets: str, **more: object) -> TargetRequest:
    return TargetRequest.model_validate({"request_id": "r1", "targets": targets, **more})


def run_in(outputs: list[Emit]) -> Run:
    (run,) = [one.event for one in outputs if one.topic == "runs"]
    assert isinstance(run, Run)
    return run


def test_units_go_to_their_zone_by_subnet_and_one_run_tells_of_them() -> None:
    outputs = list(planner().handle(record(request("198.18.0.0/23", campaign_id="c")), context(grant())))
    work = [one for one in outputs if one.topic == "work.default"]
    assert [(one.key, one.route) for one in work] == [("default|198.18.0.0/24",) * 2, ("default|198.18.1.0/24",) * 2]
    run = run_in(outputs)
    assert (run.units, run.addresses, run.ports, run.refused, run.campaign_id, run.started_at) == (2, 512, 1, (), "c", NOW)
    assert [unit.run_id for one in work if isinstance(unit := one.event, WorkUnit)] == [run.run_id] * 2
    codec = Codec()
    assert all(one.event and codec.decode(one.topic, codec.encode(one.topic, one.event)) == one.event for one in outputs)


def test_a_wholly_refused_request_has_its_run_too() -> None:
    outputs = list(planner().handle(record(request("0.0.0.0/0", "nowhere.example")), context(grant())))
    run = run_in(outputs)
    assert (len(outputs), run.units, run.addresses) == (1, 0, 0)
    assert [one.target for one in run.refused] == ["0.0.0.0/0", "nowhere.example"]


def test_without_grants_nothing_is_planned() -> None:
    run = run_in(list(planner().handle(record(request("198.18.0.7")), context())))
    assert (run.units, run.refused[0].reason) == (0, "it is in no network of any grant of zone default")


def test_a_forged_grant_counts_for_nothing_and_is_named() -> None:
    forged = grant(key=Ed25519PrivateKey.generate())
    run = run_in(list(planner().handle(record(request("198.18.0.7")), context(forged))))
    expected = "; grant lab is not believed: the signature of 'tester' does not fit the grant"
    assert run.refused[0].reason == "it is in no network of any grant of zone default" + expected
    run = run_in(list(planner().handle(record(request("198.18.0.7", grant_id="lab")), context(forged))))
    assert run.refused[0].reason == "grant lab is not believed: the signature of 'tester' does not fit the grant"


def test_a_revocation_holds_though_the_table_is_emptied_or_replayed() -> None:
    step = planner()
    assert run_in(list(step.handle(record(request("198.18.0.7")), context(grant())))).units == 1
    revoked = grant(revision=2, revoked=True)
    for table in (context(revoked), context(), context(grant())):
        run = run_in(list(step.handle(record(request("198.18.0.7")), table)))
        assert (run.units, run.refused[0].reason) == (0, "grant lab was revoked")


def test_trust_that_is_withdrawn_ends_the_grants_and_floors_stay() -> None:
    trusted: list[TrustedSigner] = [SIGNER]
    step = Planner(LIMITS, lambda: tuple(trusted), lambda _, __: {})
    table = context(grant(revision=3))
    assert run_in(list(step.handle(record(request("198.18.0.7")), table))).units == 1
    trusted.clear()
    assert "nobody here trusts" in run_in(list(step.handle(record(request("198.18.0.7")), table))).refused[0].reason
    trusted.append(SIGNER)
    assert run_in(list(step.handle(record(request("198.18.0.7")), context(grant(revision=2))))).units == 0
    assert run_in(list(step.handle(record(request("198.18.0.7")), table))).units == 1


def test_names_are_asked_for_once_a_run_and_not_for_hopeless_requests() -> None:
    asked: list[tuple[str, list[str]]] = []

    def resolve(run_id: str, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        asked.append((run_id, list(names)))
        return {"web.example": ("198.18.0.7",)}

    step = Planner(LIMITS, lambda: (SIGNER,), resolve)
    run = run_in(list(step.handle(record(request("web.example", "WEB.example", "198.18.0.9")), context(grant()))))
    assert (asked, run.addresses) == ([(run.run_id, ["web.example"])], 2)
    list(step.handle(record(request("web.example", zone="moon")), context(grant())))
    assert len(asked) == 1


def test_anything_but_a_request_is_poison() -> None:
    for event in (None, Tick(partition=0, minute=NOW)):
        with pytest.raises(Poison):
            planner().handle(record(event), context())


def test_too_much_work_is_refused_as_a_whole() -> None:
    run = run_in(list(planner().handle(record(request("198.18.0.0/16", ports="1-65535")), context(grant(packets=10)))))
    assert (run.units, run.addresses) == (0, 0)
    assert "or more requests" in run.refused[0].reason


def test_the_signers_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    trust = Trust(settings)
    assert trust() == ()
    (tmp_path / "signers.toml").write_text(f'[[signer]]\nname = "tester"\npublic_key = "{PUBLIC}"\nnetworks = ["198.18.0.0/15"]\n')
    assert [one.name for one in trust()] == ["tester"]
    (tmp_path / "signers.toml").write_text("[[signer")
    assert [one.name for one in trust()] == ["tester"]


def test_wrong_settings_are_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="70000"):
        make_step(Settings(data_dir=tmp_path, planner=PlannerSettings(default_ports="70000")), Codec())
    with pytest.raises(BadInput, match="resolvers"):
        make_step(Settings(data_dir=tmp_path, scope=ScopeSettings(resolvers=("dns.example",))), Codec())
    signer = Signer(name="tester", public_key=PUBLIC, networks=("198.18.0.0/15",))
    step = make_step(Settings(data_dir=tmp_path, scope=ScopeSettings(signers=(signer,))), Codec())
    assert run_in(list(step.handle(record(request("198.18.0.7")), context(grant())))).units > 0


def test_where_two_must_sign_nothing_is_planned_before_the_second_has(tmp_path: Path) -> None:
    second = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    public = base64.b64encode(second.public_key().public_bytes_raw()).decode()
    signers = tuple(Signer(name=name, public_key=one, networks=SIGNER.networks) for name, one in (("tester", PUBLIC), ("other", public)))
    step = make_step(Settings(data_dir=tmp_path, scope=ScopeSettings(signers=signers, signers_required=2)), Codec())
    refused = run_in(list(step.handle(record(request("198.18.0.1", ports="22")), context(grant()))))
    assert refused.units == 0
    assert "lab is not believed: it waits for a second signature beside that of 'tester'" in refused.refused[0].reason
    assert run_in(list(step.handle(record(request("198.18.0.1", ports="22")), context(cosign(grant(), "other", second))))).units == 1
