"""What a benchmark gives back: figures, and bars that they must reach; a line a bar for people, the last line as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.text import Text

Sense = Literal["at_least", "at_most"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and what it must be. Without a figure (the peer is not installed) it neither holds nor fails."""

    name: str
    figure: float | None
    sense: Sense
    limit: float

    @property
    def holds(self) -> bool | None:
        """Whether it is met; None: it was not measured."""
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.sense == "at_least" else self.figure <= self.limit

    def document(self) -> dict[str, object]:
        """As the last line of a benchmark has it."""
        return {"name": self.name, "figure": self.figure, self.sense: self.limit, "holds": self.holds}

    def told(self) -> Text:
        """A line for people."""
        word, style = {True: ("met", "green"), False: ("NOT MET", "bold red"), None: ("not measured", "yellow")}[self.holds]
        shown = "–" if self.figure is None else f"{self.figure:g}"
        return Text.assemble((f"{word:>12}", style), f"  {self.name}: {shown} ({self.sense.replace('_', ' ')} {self.limit:g})")


@dataclass(frozen=True, slots=True)
class Part:
    """The outcome of one part."""

    figures: Mapping[str, object]
    bars: list[Bar] = field(default_factory=list)


def tell(benchmark: str, figures: Mapping[str, object], bars: Iterable[Bar]) -> None:
    """Print each bar, then all as one line of JSON: `{"benchmark": …, figures…, "bars": […]}`."""
    bars, table = list(bars), Console(width=140)
    for bar in bars:
        table.print(bar.told())
    sys.stdout.write(json.dumps({"benchmark": benchmark, **figures, "bars": [one.document() for one in bars]}) + "\n")
