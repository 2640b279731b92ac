"""Hosts that answer on everything, show one face everywhere, or none: honeypots, tarpits, firewalls that answer for others. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ALIKE_PORTS = 20
MANY_ALIKE = f"identical banners on {ALIKE_PORTS} or more ports"
MUTE_PORTS = 50
MOSTLY = 0.5
MANY_STRAYS = "many SYN/ACKs that answer no probe"
ALL_MUTE = f"{MUTE_PORTS} or more ports accept a connection and say nothing to any question"


def looks_deceptive(banners: Mapping[int, str]) -> str | None:
    """Why a host with these banners by port is not to be believed, or None. The reason is the same however many ports more are alike.

    A status line of HTTP is no face: an honest host may serve many applications that all say 200 or 404.
    """
    alike = Counter(banner for banner in banners.values() if banner.strip() and not banner.startswith("HTTP/"))
    return MANY_ALIKE if max(alike.values(), default=0) >= ALIKE_PORTS else None


def looks_mute(asked: int, spoke: int) -> str | None:
    """Why a host that took connections on so many ports and spoke on `spoke` of them, asked in many ways, is not to be believed; or None.

    An honest host may be mute on some ports, but not on so many and all of them.
    """
    return ALL_MUTE if asked >= MUTE_PORTS and not spoke else None


def answer_on_everything(opened: NDArray[np.int64], asked: NDArray[np.int64] | int, least: int) -> NDArray[np.int64]:
    """Which hosts answer on everything: on at least so many ports, and on most of those that each was asked for so far.

    Ports are asked in a keyed order, so a real host would have to have most of its ports open.
    """
    return np.flatnonzero((opened >= least) & (opened >= MOSTLY * asked))
