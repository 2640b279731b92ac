"""JSON read piece by piece, strictly: UTF-8, no member twice, no NaN; memory is that of one element, not of the file (RFC 8259).

Two forms: values one after another (a record, or JSON lines), and one object of which one member is a long list.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from producers.intel.statements import FeedError

MOST_ELEMENT = 8 << 20
"""Most characters of one record; the largest real CVE record has a twentieth of it."""
MOST_MEMBERS = 64
"""Most members beside the list."""
BEHIND_A_NUMBER = len("e+")
"""So many characters may stand behind what looks like the end of a number that goes on in the next chunk: `1e+` is read as 1."""


class JsonStream:
    """A text of JSON that comes in chunks."""

    def __init__(self, chunks: Iterable[bytes], most: int = MOST_ELEMENT) -> None:
        self._chunks, self._most = iter(chunks), most
        self._text, self._at, self._lines, self._ended = "", 0, 1, False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._json = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)

    def values(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Objects one after another, each with the line that it begins in. Raises FeedError where the text is wrong or cut."""
        while self._sign():
            yield self._here(), self._object()

    def members(self, name: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """The members of the one object, and the objects in its list `name`, which must be read to its end.

        The first is filled in to its end only when the second is at its end. Raises FeedError as `values`.
        """
        head: dict[str, Any] = {}
        return head, self._walk(head, name)

    def _walk(self, head: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
        self._expect("{")
        found = False
        while True:
            key = self._value()
            if not isinstance(key, str) or key in head or (key == name and found) or len(head) >= MOST_MEMBERS:
                raise self._wrong(f"a member that is not expected: {str(key)[:60]!r}")
            self._expect(":")
            if key == name:
                found = True
                yield from self._elements()
            else:
                head[key] = self._value()
            if self._expect(",}") == "}":
                break
        if not found:
            raise self._wrong(f"there is no list '{name}'")
        if self._sign():
            raise self._wrong("something follows the end")

    def _elements(self) -> Iterator[dict[str, Any]]:
        self._expect("[")
        if self._sign() == "]":
            self._at += 1
            return
        while True:
            yield self._object()
            if self._expect(",]") == "]":
                return

    def _object(self) -> dict[str, Any]:
        found = self._value()
        if not isinstance(found, dict):
            raise self._wrong(f"{str(found)[:60]!r} is no object")
        return found

    def _value(self) -> Any:
        """The value that begins here. What ends with the text at hand may go on in the next chunk."""
        self._sign()
        while True:
            problem = ""
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                problem, end = error.msg, len(self._text)
            except (ValueError, RecursionError) as error:  # a member twice, NaN, an endless number, too many brackets
                raise self._wrong(str(error) if isinstance(error, FeedError) else type(error).__name__) from None
            if end - self._at > self._most:
                raise self._wrong(f"a value has more than {self._most} characters")
            if not problem and (end + BEHIND_A_NUMBER < len(self._text) or self._ended):
                self._at = end
                return value
            if not self._more():
                if problem:
                    raise self._wrong(f"the text is cut or no JSON ({problem})")
                self._at = end
                return value

    def _expect(self, signs: str) -> str:
        found = self._sign()
        if not found or found not in signs:
            raise self._wrong(f"here should be one of {' '.join(signs)}" if found else "the text ends too early: it was cut")
        self._at += 1
        return found

    def _sign(self) -> str:
        """The next character that is no space; '' at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Take in a chunk, let go of what was read. False at the end."""
        if self._ended:
            return False
        self._lines += self._text.count("\n", 0, self._at)
        chunk = next(self._chunks, b"")
        self._ended = not chunk
        try:
            self._text, self._at = self._text[self._at :] + self._utf8.decode(chunk, self._ended), 0
        except UnicodeDecodeError as error:
            raise self._wrong(f"it is not UTF-8 ({error.reason})") from None
        return True

    def _here(self) -> int:
        return self._lines + self._text.count("\n", 0, self._at)

    def _wrong(self, reason: str) -> FeedError:
        return FeedError(f"line {self._here()}: {reason}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        again = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise FeedError(f"the member {again[:60]!r} stands twice")
    return found


def _no_constant(word: str) -> Any:
    raise FeedError(f"{word} is no number")
