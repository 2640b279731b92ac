"""Regular expressions that match in linear time, whatever the text: the one home of RE2 (github.com/google/re2).

Texts are hostile and patterns many, so that a backtracking engine would be an invitation. RE2 has no look-around and no backreferences.
Texts and patterns are bytes, a byte is a character, and ASCII alone has letters and digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import re2

MOST_BYTES = 2048  # of a text that is looked at; whoever states a product does so early
MOST_PATTERN = 4096  # bytes of a pattern
ANCHORED = re.compile(rb"(?:\(\?i\))?\^")  # holds at the beginning only, or for the most part (`^a|b`); with (?m) at every line
BATCH = 500  # patterns of a filter at first; to find that it has too many takes long
SET_MEMORY = 64 << 20  # bytes; RE2 takes them as it needs them. With too few it would say that nothing matches


class PatternError(ValueError):
    """RE2 can't take this pattern; the text says why."""


class Pattern:
    """One regular expression. Raises PatternError for what RE2 does not know, and for one that is too long."""

    __slots__ = ("_regexp", "names", "source")

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        if len(self.source) > MOST_PATTERN:
            raise PatternError(f"it is longer than {MOST_PATTERN} bytes")
        try:
            self._regexp = re2.compile(self.source, _options())
        except re2.error as error:
            told = error.args[0] if error.args else "?"
            raise PatternError(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)) from None
        self.names: Mapping[str, int] = {name.decode(): number for name, number in self._regexp.groupindex.items()}

    @property
    def instructions(self) -> int:
        """How large RE2's program is; `a{1000}` has a thousand."""
        return int(self._regexp.programsize)

    def search(self, text: bytes) -> dict[str, str] | None:
        """The groups of the first match in the first `MOST_BYTES`, by number and name, '' for one that took no part; None for no match."""
        found = self._regexp.search(text[:MOST_BYTES])
        if found is None:
            return None
        groups = {str(number): (part or b"").decode("utf-8", "replace") for number, part in enumerate(found.groups(), 1)}
        return groups | {name: groups[str(number)] for name, number in self.names.items()}


class PatternSet:
    """Many patterns, asked at once: which of them are in a text? About one pass, however many. Raises PatternError for a huge one.

    One automaton of all would be fastest on a kind text, but a hostile one can cost it 80 ms: it has a state for each combination of
    patterns that have begun to match. So only those that hold at the text's beginning share one. Of the others, RE2 first looks for the
    words that they need (FilteredRE2), with no more states than these words have letters, then asks each whose words are there by itself.
    """

    __slots__ = ("_anchored", "_filters", "_first")

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._first = [place for place, one in enumerate(patterns) if ANCHORED.match(one.source)]
        self._anchored = re2.Set.SearchSet(_options(SET_MEMORY))
        for place in self._first:
            self._anchored.Add(patterns[place].source)
        self._anchored.Compile()
        others = [(place, one) for place, one in enumerate(patterns) if not ANCHORED.match(one.source)]
        self._filters = [made for batch in range(0, len(others), BATCH) for made in _filters(others[batch : batch + BATCH])]

    def matching(self, text: bytes) -> list[int]:
        """Places of the patterns that are in the first `MOST_BYTES`, ascending."""
        text = text[:MOST_BYTES]
        found = [self._first[number] for number in self._anchored.Match(text) or ()] if self._first else []
        as_utf8 = text.decode("latin-1").encode()
        for places, one in self._filters:
            found += [places[number] for number in one.Match(as_utf8) or ()]
        return sorted(found)


def _filters(patterns: Sequence[tuple[int, Pattern]]) -> Iterator[tuple[list[int], re2.Filter]]:
    """Filters over these patterns with the patterns' places, as few as RE2's memory allows (it has 8 MiB for the words of one).

    They work in UTF-8, where U+0000 to U+00FF stand for bytes, because the binding can't have other words (`Filter.Compile` fails).
    """
    made = re2.Filter()
    try:
        for _, one in patterns:
            made.Add(one.source.decode("latin-1"), _options(encoding=re2.Options.Encoding.UTF8))
        made.Compile()
        yield [place for place, _ in patterns], made
    except re2.error:
        if len(patterns) == 1:
            raise PatternError("it is too large to be asked with others") from None
        half = len(patterns) // 2
        yield from _filters(patterns[:half])
        yield from _filters(patterns[half:])


def _options(memory: int | None = None, encoding: re2.Options.Encoding = re2.Options.Encoding.LATIN1) -> re2.Options:
    options = re2.Options()
    options.encoding = encoding
    options.log_errors = False
    if memory is not None:
        options.max_mem = memory
    return options
