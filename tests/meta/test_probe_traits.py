"""Every probe keeps the contract: it declares what it is, and reaches the network only through the gate."""

from __future__ import annotations

import ast
import inspect
import re
import socket
import threading
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from processors.scan import probe as contract
from processors.scan import probes as package
from processors.scan.probe import BUILT_IN, AddressProbe, HostProbe, Probe, ServiceProbe, Traits, choose_probes, lacks, load_probes
from processors.scan.probing.evidence import Evidence
from processors.scan.unit import capabilities
from tests.scanning import make_unit, scan

FOLDER = Path(package.__path__[0])
KNOWN_NEEDS = {"raw", "nmap", "hping3", "traceroute", "tcptraceroute"}
FORBIDDEN = {"socket", "subprocess", "requests", "httpx", "urllib", "scapy", "os"}
EVERY = sorted(load_probes().items())


def test_the_table_holds_every_module_of_the_folder() -> None:
    assert sorted(BUILT_IN) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize(("name", "probe"), EVERY)
def test_traits(name: str, probe: Probe) -> None:
    traits = probe.traits
    assert name == traits.name
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert 1 <= traits.cost <= 100
    assert traits.yields
    assert set(traits.yields) <= {one.name for one in fields(Evidence)} - {"sources"} | {"path", "alive"}
    assert set(traits.needs) <= KNOWN_NEEDS
    assert "path" not in traits.yields or isinstance(probe, HostProbe)
    assert (traits.yields == ("alive",)) == isinstance(probe, AddressProbe)
    assert type(probe).__doc__
    assert inspect.getmodule(type(probe)).__doc__


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_probe_goes_past_the_gate(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not imported & FORBIDDEN
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"open_connection", "create_connection", "create_subprocess_exec", "create_subprocess_shell", "scan"}


def test_nothing_intrusive_runs_and_what_lacks_a_program_is_left_out() -> None:
    class Rude(ServiceProbe):
        """Would try passwords."""

        traits = Traits(name="rude", cost=1, yields=("facts",), intrusive=True)

        async def look(self, service: contract.Service) -> Evidence | None:
            raise AssertionError("it ran")

    class Needy(Rude):
        """Needs what is nowhere."""

        traits = Traits(name="needy", cost=1, yields=("facts",), needs=("no-such-program",))

    table: dict[str, Probe] = {"rude": Rude(), "needy": Needy()}
    assert choose_probes(table, ()) == choose_probes(table, ("rude", "needy")) == []
    assert [one.traits.name for one in choose_probes(table, ("rude", "needy"), intrusive=True)] == ["rude"]
    assert lacks(Needy.traits) == ("no-such-program",)
    assert set(capabilities()) <= set(load_probes())


def test_the_example_in_the_contract_works_from_outside_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docstring's probe, as a package of its own, is found by its entry point and recognises a server; a broken one does no harm."""
    lines = inspect.cleandoc(contract.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    from processors"))
    end = next(number for number, line in enumerate(lines) if line.strip().startswith("# pyproject.toml"))
    source = inspect.cleandoc("\n".join(lines[start:end])).replace("!= 79", "!= 21790")
    assert len(source.splitlines()) <= 40
    (tmp_path / "dlp_finger.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("finger", "dlp_finger:Finger", contract.ENTRY_POINTS),
        EntryPoint("broken", "dlp_none:Nothing", contract.ENTRY_POINTS),
    ]
    monkeypatch.setattr(contract, "entry_points", lambda group: points)
    load_probes.cache_clear()
    try:
        with socket.create_server(("127.0.0.1", 21790)) as server:
            thread = threading.Thread(target=serve, args=(server,), daemon=True)
            thread.start()
            (seen,) = scan(make_unit(["127.0.0.1"], "21790", ["finger"])).hosts[0].services
    finally:
        load_probes.cache_clear()
    assert (seen.service, seen.banner, seen.evidence) == ("finger", "nobody here", ("finger",))


def serve(server: socket.socket) -> None:
    """Answer a line to whoever sends one; a sweep's connect sends none."""
    for _ in range(2):
        connection, _ = server.accept()
        with connection:
            try:
                if connection.recv(10):
                    connection.sendall(b"nobody here\n")
            except OSError:
                continue
