"""Reads a source's full snapshot: JSON files of one system, told apart by what they hold. A fault anywhere refuses all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from infra.core.errors import BadInput
from producers.inventory.aws import read_aws
from producers.inventory.kubernetes import read_kubernetes
from producers.inventory.members import Snapshot
from producers.inventory.netbox import read_netbox
from schemas.wording import what_is_wrong

MOST_BYTES = 256 << 20
MOST_MEMBERS = 1_000_000
READERS: dict[str, Callable[[Sequence[object]], Snapshot]] = {"netbox": read_netbox, "kubernetes": read_kubernetes, "aws": read_aws}


def read_snapshot(files: Sequence[Path]) -> Snapshot:
    """The members in these files together. Raises BadInput for one that is broken, not whole, too large, or of another system."""
    documents = [_document(file) for file in files]
    systems = [_system(document, file) for document, file in zip(documents, files, strict=True)]
    if len(set(systems)) != 1:
        raise BadInput("These files are of several systems.", "Give each system a source of its own.")
    named = ", ".join(map(str, files))
    try:
        snapshot = READERS[systems[0]](documents)
    except ValueError as error:
        words = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"The snapshot in {named} can't be used: {words}.", "Nothing was changed.") from None
    if len(snapshot.members) > MOST_MEMBERS:
        raise BadInput(f"The snapshot in {named} has more than {MOST_MEMBERS:,} members.", "Divide it among several sources.")
    return snapshot


def _document(file: Path) -> object:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise BadInput(f"{file} is larger than {MOST_BYTES >> 20} MB.", "Divide it among several files.")
        return json.loads(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.", "Name a file of JSON.") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is no whole JSON: {str(error)[:200]}.", "Nothing was changed.") from None


def _system(document: object, file: Path) -> str:
    fields = set(document) if isinstance(document, dict) else set()
    if {"count", "results"} <= fields:
        return "netbox"
    if {"kind", "items"} <= fields:
        return "kubernetes"
    if fields & {"Reservations", "NetworkInterfaces"}:
        return "aws"
    raise BadInput(
        f"{file} is no list of NetBox's API, of kubectl, or of aws ec2.",
        "Give the answer as it is: a list with count and results, kubectl get … -o json of several objects, or describe-instances.",
    )
