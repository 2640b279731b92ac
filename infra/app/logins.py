"""Under `driftline up` with `broker.sasl`: a user for each child process, with the rights of the roles in it and no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from infra.core.secret_files import make_secret
from infra.core.settings import Settings
from infra.kafka.access import AccessAdmin, permissions
from schemas.access import ROLES, Right, rights


def rights_of(settings: Settings, roles: Iterable[str]) -> frozenset[Right]:
    """What a process that runs these roles may do; a scanner only in its own zone. `store` needs nothing of Kafka."""
    zones = {"scanner": (settings.scanner.zone,)}
    return frozenset().union(*(rights(one, zones.get(one, settings.zones)) for one in roles if one in ROLES))


def password_file(settings: Settings, user: str) -> Path:
    """Where a process finds its password."""
    return settings.data_dir / "kafka" / "users" / f"{user}.password"


def make_logins(settings: Settings, groups: Iterable[tuple[str, ...]]) -> None:
    """Give each group of roles its user, password and rights. A second time changes nothing. Raises DriftlineError, OSError."""
    access, given = AccessAdmin(settings), {"+".join(roles): rights_of(settings, roles) for roles in groups}
    users = {user: some for user, some in given.items() if some}
    access.set_passwords({user: make_secret(password_file(settings, user)) for user in users})
    access.give(one for user, some in users.items() for one in permissions(settings, user, some))


def login_environment(settings: Settings, roles: tuple[str, ...]) -> dict[str, str]:
    """What makes a child process log in as its own user; nothing where the broker is not ours, or open, or not needed."""
    if not settings.broker.sasl or settings.kafka.bootstrap is not None or not rights_of(settings, roles):
        return {}
    user = "+".join(roles)
    return {
        "DRIFTLINE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "DRIFTLINE_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "DRIFTLINE_KAFKA__SASL_USERNAME": user,
        "DRIFTLINE_KAFKA__SASL_PASSWORD_FILE": str(password_file(settings, user)),
    }
