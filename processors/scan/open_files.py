"""How many sockets may be open: the process raises its own limit, and units share what it gives."""

from __future__ import annotations

import resource

MOST_SOCKETS = 10_000  # of all units of this process: each costs the kernel some 3 KB
SPARE_FILES = 256  # for logs, Kafka, programs that are run


def raised_open_files() -> int:
    """How many files this process may open, once its own limit is as high as it needs and the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_SOCKETS + 2 * SPARE_FILES
    if soft < wanted and soft < hard:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def socket_bound(open_files: int, parallel_units: int) -> int:
    """How many sockets one unit may have open, so that all units together stay within the process's open files and its memory."""
    return max(8, min(MOST_SOCKETS, open_files - SPARE_FILES) // parallel_units)
