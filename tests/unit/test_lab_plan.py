"""The lab's plan, network script and recipes: addresses stay in their ranges, nothing leaves the lab."""

from __future__ import annotations

import ipaddress

import pytest

from infra.local.lab.network import script
from infra.local.lab.plan import BEFORE, CERTIFICATES, HOSTS, Plan, Service, after
from infra.local.lab.recipes import RECIPES, Site


@pytest.mark.parametrize("number", [0, 1, 200, 255])
def test_every_address_lies_in_the_ranges_that_no_one_routes(number: int) -> None:
    plan = Plan("dlt-", number)
    four, six = ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("2001:db8::/32")
    addresses = [address for host in HOSTS for address in plan.addresses(host.name)]
    addresses += [plan.link4(1), plan.link4(2), plan.link6(1), plan.link6(2)]
    for address in map(ipaddress.ip_address, addresses):
        assert address in (four if address.version == 4 else six)
    assert len(set(addresses)) == len(addresses)


def test_two_labs_share_no_network_and_no_name() -> None:
    one, two = Plan("dlt-", 201), Plan("dlt-", 202)
    assert {one.network4, one.network6, one.link4(1), one.link6(1), one.interface}.isdisjoint(
        {two.network4, two.network6, two.link4(1), two.link6(1), two.interface}
    )


@pytest.mark.parametrize(("prefix", "number"), [("dl-", 256), ("dl-", -1), ("a-prefix-too-long-", 1)])
def test_a_lab_that_can_not_be_named_is_refused(prefix: str, number: int) -> None:
    with pytest.raises(ValueError, match="at most 15 characters"):
        Plan(prefix, number)


def test_no_namespace_gets_a_default_route() -> None:
    lines = script(Plan("dlt-", 203)).splitlines()
    routes = [line for line in lines if "route" in line and " add " in line and "via" in line]
    assert len(routes) == len(HOSTS) + sum(host.ipv6 for host in HOSTS) + 2
    for line in routes:
        target = ipaddress.ip_network(line.split(" add ")[1].split()[0])
        assert target.prefixlen >= 24
    assert not [line for line in lines if "default" in line]


def test_the_change_opens_one_closes_one_and_swaps_one_certificate() -> None:
    changed = after(BEFORE)
    opened, closed = set(changed) - set(BEFORE), set(BEFORE) - set(changed)
    assert {(one.host, one.kind) for one in closed} == {("cache", "memcached"), ("web", "https")}
    assert {(one.host, one.kind, one.certificate) for one in opened} == {("files", "redis", None), ("web", "https", "expiring")}


def test_every_service_has_a_recipe_that_binds_nothing_but_its_own_addresses() -> None:
    for service in (*BEFORE, *after(BEFORE)):
        addresses = Plan(number=204).addresses(service.host)
        recipe = RECIPES[service.kind](service, Site(addresses, "/run/lab/x"))
        text = "\n".join([*recipe.argv, *recipe.files.values()])
        assert all(address in text for address in addresses[:1])
        assert "0.0.0.0" not in text
        assert str(service.port) in text


def test_the_open_redis_lets_no_one_write_files_or_load_code() -> None:
    argv = RECIPES["redis"](Service("cache", "redis", 6379), Site(("198.18.204.5",), "/run/lab/x")).argv
    for command in ("CONFIG", "MODULE", "REPLICAOF"):
        at = argv.index(command)
        assert argv[at - 1 : at + 2] == ("--rename-command", command, "")


def test_a_new_sshd_is_told_not_to_bar_scanners() -> None:
    service = Service("bastion", "ssh", 22)
    old = RECIPES["ssh"](service, Site(("198.18.204.4",), "/x", ssh_version=(9, 2))).files["sshd_config"]
    new = RECIPES["ssh"](service, Site(("198.18.204.4",), "/x", ssh_version=(10, 0))).files["sshd_config"]
    assert "PerSourcePenalties" not in old
    assert "PerSourcePenalties no" in new


def test_every_certificate_that_is_named_is_described() -> None:
    assert {one.certificate for one in (*BEFORE, *after(BEFORE)) if one.certificate} == set(CERTIFICATES)
