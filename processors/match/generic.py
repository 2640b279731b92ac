"""Versions of no stated scheme, in the order that most makers mean. Pure, and linear in the text's length.

`1.2 < 1.2.1`, `1.2-rc1 < 1.2`, `9.2 < 9.2p1`, `1.0.2k < 1.0.2u`, `21.2R3-S6 < 21.2R3-S7`, `1.2 = 1.2.0`. Where makers differ
(`1.2b1` is a beta here and a build there; who knows what `-evo` means) there is no order, and it is not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PIECES = re.compile(r"[0-9]+|[a-z]+|[^0-9a-z]+")
EARLIER = {"dev": 0, "alpha": 1, "beta": 2, "milestone": 3, "rc": 4, "cr": 4, "pre": 9, "preview": 9, "ea": 9, "snapshot": 9, "nightly": 9}
"""Words of versions before the one that they stand behind. Those of rank 9 compare with themselves only."""
LATER = frozenset("p patch pl sp u update upd r rev revision h hf hotfix s cu build fix fp post mr d".split())  # noqa: SIM905
"""Words of versions after the one that they stand behind; as a rule a number follows."""
NOTHING = frozenset(["final", "ga", "release", "stable"])
SPACED = frozenset((*EARLIER, *LATER))
"""Words that may stand behind a blank (`8.0 U3`): others make it a sentence."""
JOINTS = frozenset(("", ".", "-", "_", " ", ").", ")", ")-"))
"""What may stand between the parts of a version."""
NUMBERED, LETTERED, WORD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Part:
    """What follows the leading numbers: a number behind a joint (`-3`, `(33`), letters at a number (`2k`), or a word with its number."""

    kind: int
    text: str
    number: int = 0

    @property
    def side(self) -> int | None:
        """Whether a version with this part comes before (-1) or after (1) the same without it; None where makers differ."""
        if self.kind == WORD:
            return -1 if self.text in EARLIER else 1 if self.text in LATER else None
        return 1


@dataclass(frozen=True, slots=True)
class Generic:
    """Leading numbers and what follows them."""

    numbers: tuple[int, ...]
    parts: tuple[Part, ...]


def parse(text: str) -> Generic | None:
    """The version, of at most so many characters as the caller allows; None for what is none."""
    low = text.strip().lower().replace("\\", "")
    low = low[1:] if low[:1] == "v" and low[1:2].isdigit() else low.removeprefix("release.").removeprefix("release-")
    numbers: list[int] = []
    parts: list[Part] = []
    joint = ""
    pieces = PIECES.findall(low)
    for place, piece in enumerate(pieces):
        if piece.isdigit():
            if not _take_number(int(piece), joint, numbers, parts):
                return None
        elif piece.isalpha():
            if joint not in JOINTS or (joint == " " and piece not in SPACED):
                return None
            following = pieces[place + 1].isdigit() if place + 1 < len(pieces) else False
            _take_word(piece, joint, following, bool(numbers), parts)
        else:
            joint = piece
            continue
        joint = ""
    if joint not in ("", ")") or not (numbers or parts):
        return None
    return Generic(tuple(numbers), tuple(one for one in parts if one.kind != WORD or one.text not in NOTHING))


def _take_number(number: int, joint: str, numbers: list[int], parts: list[Part]) -> bool:
    last = parts[-1] if parts else None
    if last is None and joint in ("", "."):
        numbers.append(number)
    elif last and last.kind == WORD and last.number < 0 and (joint in ("", ".", "-", "_") or (joint == " " and last.text in SPACED)):
        parts[-1] = Part(WORD, last.text, number)
    elif joint in (".", "-", "_", "(", ")", ")."):
        parts.append(Part(NUMBERED, joint.strip(")") or ".", number))
    else:
        return False
    return True


def _take_word(word: str, joint: str, numbered: bool, behind_numbers: bool, parts: list[Part]) -> None:
    at_number = joint == "" and (parts[-1].kind != LETTERED if parts else behind_numbers)
    if word == "m" and joint in (".", "-") and numbered:
        word = "milestone"  # 9.0.0-M1; elsewhere (Cisco's 15.2(4)M9) it is something else
    if at_number and not numbered and len(word) <= 2 and word not in EARLIER and (not parts or parts[-1].number >= 0):
        parts.append(Part(LETTERED, word))
    else:
        parts.append(Part(WORD, word, -1))


def compare(left: Generic, right: Generic) -> int | None:
    """-1, 0 or 1 as left is before, equal to or after right; None where nobody can say."""
    first, second = left.parts, right.parts
    while first and second and first[-1] == second[-1] and first[-1].side is None:
        first, second = first[:-1], second[:-1]  # the same edition of both (`-evo`)
    for mine, other in zip(left.numbers, right.numbers, strict=False):
        if mine != other:
            return -1 if mine < other else 1
    shared = min(len(left.numbers), len(right.numbers))
    if any(left.numbers[shared:]):
        return _longer(second)
    if any(right.numbers[shared:]):
        longer = _longer(first)
        return longer and -longer
    return _compare_parts(first, second)


def _longer(parts: tuple[Part, ...]) -> int | None:
    """A version with one number more than one with these parts: `1.2.1` is after `1.2-rc1` and `1.2p1`; of `1.2k` none can say."""
    return 1 if not parts or (parts[0].kind == WORD and parts[0].side is not None) or parts[0].text in (".", "-") else None


def _compare_parts(first: tuple[Part, ...], second: tuple[Part, ...]) -> int | None:
    for mine, other in zip(first, second, strict=False):
        if mine != other:
            return _order(mine, other)
    shared = min(len(first), len(second))
    if len(first) > shared:
        return first[shared].side
    if len(second) > shared:
        side = second[shared].side
        return side and -side
    return 0


def _order(mine: Part, other: Part) -> int | None:
    if mine.kind == other.kind == LETTERED:
        return -1 if mine.text < other.text else 1  # a … z, za, zb … as OpenSSL counts
    if mine.kind == other.kind and mine.text == other.text:
        return -1 if mine.number < other.number else 1
    sides = mine.side, other.side
    if sides in ((-1, 1), (1, -1)):
        return mine.side
    if sides == (-1, -1):
        ranks = EARLIER[mine.text], EARLIER[other.text]
        return None if ranks[0] == ranks[1] or 9 in ranks else -1 if ranks[0] < ranks[1] else 1
    return None
