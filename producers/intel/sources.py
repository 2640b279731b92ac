"""Which feeds are to be read, and from where: as a person named them, or as the settings switch them on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.core.errors import BadInput
from infra.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """A feed and where it is: an http(s) URL, or the path of a file or folder."""

    feed: str
    place: str

    @property
    def remote(self) -> bool:
        """Whether it is fetched."""
        return "://" in self.place

    @property
    def address(self) -> str:
        """The URL as everybody may read it, without its query, which may hold a key; '' for a path, which means nothing to others."""
        return self.place.partition("#")[0].partition("?")[0] if self.remote else ""


def named(places: Mapping[str, Iterable[str]]) -> list[Source]:
    """The sources by feed. CVE records come last: a rejected one goes whatever the others say. Raises BadInput for a wrong URL."""
    return [_checked(Source(feed, place)) for feed in ("kev", "epss", "nvd", "cve") for place in places.get(feed, ())]


def configured(settings: Settings) -> list[Source]:
    """The sources that the settings switch on; none by default."""
    return named({feed: [getattr(settings.intel, feed)] for feed in settings.intel.feeds})


def _checked(source: Source) -> Source:
    if source.remote:
        try:
            parts = urlsplit(source.place)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname
        except ValueError:
            wrong, parts = True, urlsplit("")
        if wrong:
            raise BadInput(f"'{source.place}' is no http(s) URL.", "Name a URL or a file.")
        if parts.username or parts.password:
            raise BadInput("A feed's URL holds a password, which would be shown with every record.", "Fetch it yourself and name the file.")
    return source
