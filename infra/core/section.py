"""What every branch of the tree of settings shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator


class Section(BaseModel):
    """A branch of the tree: immutable, and an unknown name is an error rather than a silent typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read_secrets(cls, given: Any) -> Any:
        """A secret `x` may stand in the file that `x_file` names, as container platforms mount them; where both are given, `x` counts."""
        if not isinstance(given, dict):
            return given
        found = dict(given)
        for name in [one.removesuffix("_file") for one in given if one.endswith("_file")]:
            if name in cls.model_fields and _is_secret(cls, name) and found.get(name) is None and given[f"{name}_file"]:
                try:
                    found[name] = Path(given[f"{name}_file"]).read_text().strip()
                except (OSError, UnicodeDecodeError) as error:
                    reason = error.strerror if isinstance(error, OSError) else "it is no text"
                    raise ValueError(f"the file that {name}_file names can't be read: {reason}") from None
        return found


def _is_secret(section: type[Section], name: str) -> bool:
    """Whether a setting is a secret; `signers` and `signers_file`, for one, are two settings."""
    return SecretStr in (section.model_fields[name].annotation, *get_args(section.model_fields[name].annotation))
