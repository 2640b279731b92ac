"""Where the demo plays: the lab in namespaces where the machine allows it, else loopback services; both show one face."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Protocol

from infra.local.lab.lab import Lab
from infra.local.lab.truth import ServiceTruth
from infra.local.loopback_lab import LoopbackLab


class Ground(Protocol):
    """A network to practise on."""

    @property
    def interface(self) -> str:
        """Where its packets can be captured."""

    def up(self) -> None:
        """Make it; returns when every service listens."""

    def change(self) -> None:
        """Open one service, close one, swap a certificate."""

    def hide(self, port: int) -> tuple[str, int]:
        """Open one service more, which `truth` does not tell of, at this port; where it is."""

    def down(self) -> None:
        """Leave nothing of it."""

    def networks(self) -> list[str]:
        """What a grant has to cover."""

    def targets(self) -> list[str]:
        """What a campaign names."""

    def truth(self) -> list[ServiceTruth]:
        """What a correct scan finds now."""


def choose_ground(folder: Path) -> tuple[Ground, str | None, list[str]]:
    """The ground, the ports to look at there (None: the usual ones), and why the lab can't be had, if so."""
    problems = Lab.prerequisites()
    if not problems and (refusal := _raw_refusal()):
        problems = [f"Raw sockets are refused here: {refusal}."]
    if not problems:
        return Lab(folder), None, []
    loopback = LoopbackLab(folder)
    return loopback, ",".join(str(port) for port in loopback.ports()), problems


def _raw_refusal() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()
    except OSError as error:
        return str(error)
    return None
