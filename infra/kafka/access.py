"""Users of the cluster and what they may do: compared with the table of rights (`schemas/access.py`), and made so.

A right is given as an ALLOW ACL on the literal name, or on a prefix where the table says so; nothing is ever denied by name, since the
authoriser denies what is not allowed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from infra.core.errors import DriftlineError, MissingPrerequisite, Refused
from infra.core.settings import Settings
from infra.kafka.client import FORBIDDEN, connection, prefixed, unreachable
from schemas.access import Right, parse_role, rights

ITERATIONS = 8192
WAIT_SECONDS = 30.0
RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional_id": ResourceType.TRANSACTIONAL_ID}


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """A right of a user, under its full name on the cluster."""

    user: str
    right: Right

    @property
    def said(self) -> str:
        """For people."""
        kind = self.right.kind.replace("_", " ")
        return f"{self.right.operation.lower()} {kind} {self.right.name}{'*' if self.right.prefixed else ''}"


def wanted_permissions(settings: Settings) -> set[Permission]:
    """What the users of `kafka.principals` need for their roles."""
    found: set[Permission] = set()
    for user, roles in settings.kafka.principals.items():
        for text in roles:
            role, zone = parse_role(text)
            found |= permissions(settings, user, rights(role, (zone,) if zone else settings.zones))
    return found


def permissions(settings: Settings, user: str, given: Iterable[Right]) -> set[Permission]:
    """These rights for this user, on the names with the installation's prefix."""
    return {Permission(user, Right(one.kind, prefixed(settings, one.name), one.operation, one.prefixed)) for one in given}


class AccessAdmin:
    """Gives and takes rights and SCRAM passwords. Each call raises Refused or MissingPrerequisite with what to do."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AdminClient(connection(settings))

    def plan(self) -> tuple[list[Permission], list[Permission]]:
        """What the users of the settings lack, and what they have beside it. Of others nothing is said."""
        wanted, users = wanted_permissions(self._settings), set(self._settings.kafka.principals)
        if not users:
            return [], []
        there = {one for one in self.existing() if one.user in users}
        return sorted(wanted - there), sorted(there - wanted)

    def existing(self, user: str | None = None) -> set[Permission]:
        """The rights on the cluster that this table could have given; of one user, or of all."""
        asked = _filter(user)
        found = self._done(self._admin.describe_acls(asked, request_timeout=WAIT_SECONDS))
        return {one for one in map(_permission, found) if one is not None}

    def give(self, wanted: Iterable[Permission]) -> None:
        """Give rights; those that are there stay as they are. They count when this returns."""
        given = set(wanted)
        if given:
            for future in self._admin.create_acls([_binding(one) for one in sorted(given)], request_timeout=WAIT_SECONDS).values():
                self._done(future)
            _await(lambda: given <= self.existing())

    def take(self, unwanted: Iterable[Permission]) -> None:
        """Take rights away. When this returns the authoriser refuses the very next request."""
        taken = set(unwanted)
        if taken:
            filters = [_exactly(_binding(one)) for one in sorted(taken)]
            for future in self._admin.delete_acls(filters, request_timeout=WAIT_SECONDS).values():
                self._done(future)
            _await(lambda: not taken & self.existing())

    def take_all(self, user: str) -> int:
        """Take every right of a user, whoever gave it; how many there were."""
        (future,) = self._admin.delete_acls([_filter(user)], request_timeout=WAIT_SECONDS).values()
        count = len(self._done(future))
        _await(lambda: not self.existing(user))
        return count

    def users(self) -> set[str]:
        """The users that have a SCRAM password."""
        return set(self._done(cast("Future[Any]", self._admin.describe_user_scram_credentials(request_timeout=WAIT_SECONDS))))

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Give users a SCRAM-SHA-512 password, or another one."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        self._alter([UserScramCredentialUpsertion(user, info, password.encode()) for user, password in passwords.items()])
        _await(lambda: set(passwords) <= self.users())

    def drop_password(self, user: str) -> bool:
        """No new login for this user; whether there was one."""
        if user not in self.users():
            return False
        self._alter([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512)])
        _await(lambda: user not in self.users())
        return True

    def _alter(self, alterations: list[Any]) -> None:
        for future in self._admin.alter_user_scram_credentials(alterations, request_timeout=WAIT_SECONDS).values() if alterations else ():
            self._done(future)

    def _done(self, future: Future[Any]) -> Any:
        try:
            return future.result(WAIT_SECONDS + 5)
        except KafkaException as error:
            raise _refused(self._settings, error) from None


def _await(known: Callable[[], bool]) -> None:
    """Wait until the broker goes by what the controller has taken: it answers a moment before. Raises DriftlineError if it never does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not known():
        if time.monotonic() > deadline:
            raise DriftlineError("The broker does not go by the new rights yet.", "Try again; see the broker's log.")
        time.sleep(0.02)


def _refused(settings: Settings, error: KafkaException) -> DriftlineError:
    reason: KafkaError = error.args[0]
    if reason.code() == KafkaError.SECURITY_DISABLED:
        return MissingPrerequisite(
            "This Kafka has no authoriser: whoever reaches it may do everything.",
            "Set DRIFTLINE_BROKER__SASL=true for the embedded broker, or authorizer.class.name on yours.",
        )
    if reason.code() in FORBIDDEN:
        return Refused(f"Kafka does not let this user manage others ({reason.str()}).", "It needs ALTER and DESCRIBE on the cluster.")
    if reason.code() < 0:
        return unreachable(settings, error)
    return Refused(f"Kafka refused to change users or rights: {reason.str()}.", "See the broker's log.")


def _binding(one: Permission) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if one.right.prefixed else ResourcePatternType.LITERAL
    allow, operation = AclPermissionType.ALLOW, AclOperation[one.right.operation]
    return AclBinding(RESOURCES[one.right.kind], one.right.name, pattern, f"User:{one.user}", "*", operation, allow)


def _permission(binding: AclBinding) -> Permission | None:
    kind = next((name for name, kind in RESOURCES.items() if kind == binding.restype), None)
    operation = cast("AclOperation", binding.operation).name
    if kind is None or operation not in ("READ", "WRITE", "CREATE") or binding.permission_type != AclPermissionType.ALLOW:
        return None
    prefixed_name = binding.resource_pattern_type == ResourcePatternType.PREFIXED
    return Permission(binding.principal.removeprefix("User:"), Right(kind, binding.name, operation, prefixed_name))  # type: ignore[arg-type]


def _exactly(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type)


def _filter(user: str | None) -> AclBindingFilter:
    principal: Any = None if user is None else f"User:{user}"
    nothing: Any = None
    return AclBindingFilter(ResourceType.ANY, nothing, ResourcePatternType.ANY, principal, nothing, AclOperation.ANY, AclPermissionType.ANY)
