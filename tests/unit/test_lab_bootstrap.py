"""The installer's decisions: what is missing, what is current, and that Debian starts no daemon of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from infra.app import bootstrap
from infra.local import packages


@pytest.fixture
def stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "driftline.json"
    monkeypatch.setattr(bootstrap, "STAMP", path)
    return path


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(bootstrap, "POLICY", path)
    return path


def test_without_a_stamp_or_with_a_broken_one_nothing_is_installed(stamp: Path) -> None:
    assert not bootstrap.is_current("demo")
    stamp.write_text("{half")
    assert not bootstrap.is_current("demo")


def test_what_the_tests_need_is_enough_for_the_demo_but_not_the_other_way(stamp: Path) -> None:
    bootstrap.remember("demo", bootstrap.fingerprint("demo"))
    assert bootstrap.is_current("demo")
    assert not bootstrap.is_current("test")
    stamp.unlink()
    bootstrap.remember("test", bootstrap.fingerprint("test"))
    assert bootstrap.is_current("demo")
    assert bootstrap.is_current("test")


def test_a_changed_lock_makes_the_environment_stale(stamp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap.remember("demo", bootstrap.fingerprint("demo"))
    changed = tmp_path / "changed.lock"
    changed.write_text("other")
    monkeypatch.setitem(bootstrap.LOCKS, "demo", changed)
    assert not bootstrap.is_current("demo")


def test_no_daemon_is_started_meanwhile_and_the_policy_is_gone_after_a_failure(policy: Path) -> None:
    def fail() -> None:
        with bootstrap.no_daemons():
            assert subprocess.run([policy], check=False).returncode == 101
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not policy.exists()


def test_a_policy_of_the_machine_is_left_alone_and_one_of_a_killed_run_removed(policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n")
    with bootstrap.no_daemons():
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    policy.write_text(bootstrap.POLICY_TEXT)
    with bootstrap.no_daemons():
        pass
    assert not policy.exists()


def test_without_root_packages_are_named_and_never_installed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not bootstrap.able(["hping3"])
    said = capsys.readouterr()
    assert "Missing Debian packages: hping3. They are not installed, for this is not run as root" in said.err
    assert said.out == ""


def test_only_the_tests_ask_for_the_tests_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "missing", list)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert set(bootstrap.needed_packages("test")) - set(bootstrap.needed_packages("demo")) == set(packages.TESTS)


def test_a_python_without_venv_asks_for_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "absent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert f"python{sys.version_info.major}.{sys.version_info.minor}-venv" in bootstrap.needed_packages("demo")


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(bootstrap.Failure, match=r"needs Python 3\.11 or newer, and this is 3\.10"):
        bootstrap.main("demo")


def test_it_parses_under_an_old_python_and_imports_only_the_standard_library() -> None:
    for module in (bootstrap, packages):
        assert module.__file__
        tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in imported} - {"infra"} <= sys.stdlib_module_names


def test_make_help_lists_every_target() -> None:
    root = bootstrap.ROOT
    # Under `make test` this make would be a child of that one, and say so.
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=10).stdout
    declared = next(line for line in (root / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")).split()[1:]
    assert {line.split()[0] for line in shown.splitlines()} == set(declared)
