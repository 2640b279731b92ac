"""Regular expressions that match in linear time, whatever the text: the one home of RE2 (github.com/google/re2).

Texts are hostile and patterns many, so that a backtracking engine would be an invitation. RE2 has no look-around and no backreferences.
Texts and patterns are bytes, a byte is a character, and ASCII alone has letters and digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import re2

MOST_BYTES = 2048  # of a text that is looked at; whoever states a product does so early
SET_MEMORY = 64 << 20  # bytes; RE2 takes them as it needs them. With too few it would say that nothing matches


class PatternError(ValueError):
    """RE2 can't take this pattern; the text says why."""


class Pattern:
    """One regular expression. Raises PatternError for what RE2 does not know."""

    __slots__ = ("_regexp", "names", "source")

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        try:
            self._regexp = re2.compile(self.source, _options())
        except re2.error as error:
            told = error.args[0] if error.args else "?"
            raise PatternError(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)) from None
        self.names: Mapping[str, int] = {name.decode(): number for name, number in self._regexp.groupindex.items()}

    def search(self, text: bytes) -> dict[str, str] | None:
        """The groups of the first match in the first `MOST_BYTES`, by number and name, '' for one that took no part; None for no match."""
        found = self._regexp.search(text[:MOST_BYTES])
        if found is None:
            return None
        groups = {str(number): (part or b"").decode("utf-8", "replace") for number, part in enumerate(found.groups(), 1)}
        return groups | {name: groups[str(number)] for name, number in self.names.items()}


class PatternSet:
    """Many patterns, asked at once: which of them are in a text? One pass, however many there are."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._set = re2.Set.SearchSet(_options(SET_MEMORY))
        for one in patterns:
            self._set.Add(one.source)
        self._set.Compile()

    def matching(self, text: bytes) -> list[int]:
        """Places of the patterns that are in the first `MOST_BYTES`, ascending."""
        return sorted(self._set.Match(text[:MOST_BYTES]) or ())


def _options(memory: int | None = None) -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    if memory is not None:
        options.max_mem = memory
    return options
