"""A feed's statements as a file: read whole and found sound before anything of it is used, without holding it in memory.

The file is this process's own and has no name; `marshal` reads it back five times as fast as Avro.
"""

from __future__ import annotations

import marshal
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from producers.intel.statements import FeedError, Fields, Rejected
from schemas.codec import Codec
from schemas.plain import Plain

HEAD = struct.Struct("<BHIq")
MOST_BYTES = 2 << 20
"""Most bytes of one statement: two feeds' fit into one record of Kafka."""
AHEAD_MS = 86_400_000
"""How far ahead of our clock a feed's date may be: a statement from the future would never give way to a later one."""


class Spool:
    """The statements of one feed, each CVE once. Closed, it is gone."""

    def __init__(self, folder: Path, codec: Codec) -> None:
        self._codec = codec
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `close`
        self.names: set[str] = set()
        self.as_of = 0

    def fill(self, statements: Iterable[Fields | Rejected], now_ms: int, each: Callable[[], None] = lambda: None) -> None:
        """Take in all statements. Raises FeedError at the first that is wrong, stands twice, is too large, or is of the future."""
        for one in statements:
            cve, as_of = (one.cve, one.as_of) if isinstance(one, Rejected) else (one["cve"], one["as_of"])
            if cve in self.names:
                raise FeedError(f"{cve} stands in it twice")
            if as_of > now_ms + AHEAD_MS:
                raise FeedError(f"{cve} is dated in the future: check the clock of this machine and of the feed")
            self.names.add(cve)
            self.as_of = max(self.as_of, as_of)
            body = b"" if isinstance(one, Rejected) else self._checked(one)
            name = cve.encode()
            self._file.write(HEAD.pack(isinstance(one, Rejected), len(name), len(body), as_of) + name + body)
            each()

    def __iter__(self) -> Iterator[Fields | Rejected]:
        """The statements, in their order."""
        self._file.seek(0)
        while head := self._file.read(HEAD.size):
            rejected, name, body, as_of = HEAD.unpack(head)
            cve = self._file.read(name).decode()
            if rejected:
                yield Rejected(cve, as_of)
            else:
                yield marshal.loads(self._file.read(body))  # noqa: S302  written by `fill`, into a file without a name

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _checked(self, fields: Fields) -> bytes:
        """The statement as it is kept. Whatever holds a stranger's text is encoded once, to see that it can be."""
        if fields["epss"] is None:
            try:
                size = len(self._codec.encode("intel", Plain("IntelRecord", fields)))
            except (ValueError, TypeError, ArithmeticError) as error:  # a lone surrogate
                raise FeedError(f"{fields['cve']} can't be written ({error})") from None
            if size > MOST_BYTES:
                raise FeedError(f"{fields['cve']} takes {size} bytes, more than {MOST_BYTES}")
        return marshal.dumps(fields)
