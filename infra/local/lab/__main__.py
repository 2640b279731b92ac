"""`python -m infra.local.lab up` holds the lab until Ctrl-C and prints its truth; `down` removes it, whoever started it."""

from __future__ import annotations

import signal
import sys

from infra.core.errors import DriftlineError
from infra.core.settings import load_settings
from infra.local.lab.lab import Lab


def main() -> int:
    """Run one of the two commands. Returns the exit code."""
    lab = Lab(load_settings().data_dir)
    try:
        if sys.argv[1:] == ["down"]:
            lab.clean()
        elif sys.argv[1:] == ["up"]:
            with lab:
                sys.stdout.writelines(f"{one}\n" for one in lab.truth())
                sys.stdout.flush()
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
        else:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    except DriftlineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
