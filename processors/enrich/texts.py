"""A server's raw words, divided into the texts that rules look at. Pure and linear: every word is hostile."""

from __future__ import annotations

import html

MOST_RAW = 64 * 1024  # bytes of an answer that are looked at
MOST_LINES = 100
MOST_TITLE = 1024  # bytes; each entity in it takes a microsecond
HEADS = (b"HTTP/", b"RTSP/", b"SIP/", b"ICY ")
HEADERS = {
    b"server": "server",
    b"user-agent": "server",  # a SIP phone's own name (RFC 3261, 20.41)
    b"x-powered-by": "powered_by",
    b"www-authenticate": "www_authenticate",
    b"x-generator": "generator",
    b"set-cookie": "cookie",
    b"location": "location",
}
SERVED = ("http", "rtsp", "sip")


def texts_in(raw: bytes, service: str = "") -> dict[str, bytes]:
    """The texts by field. An answer with a head (RFC 9112, 7826, 3261) is divided; a lone line of such a service is its Server header."""
    raw = raw[:MOST_RAW]
    texts = {"banner": raw.rstrip(b"\r\n")}
    if not raw.startswith(HEADS):
        return texts | {"server": texts["banner"]} if service in SERVED else texts
    head, _, body = raw.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n")[1:MOST_LINES]:
        name, _, value = line.partition(b":")
        field = HEADERS.get(name.strip().lower())
        if field and value.strip():
            texts.setdefault(field, value.strip())
    found = {"title": title_in(body), "generator": _generator_in(body)}
    return {field: text for field, text in found.items() if text} | texts


def title_in(body: bytes) -> bytes:
    """The first title of an HTML text, its entities resolved and blanks joined; b"" without one."""
    low = body.lower()
    opened = low.find(b"<title")
    start = low.find(b">", opened) if opened >= 0 else -1
    end = low.find(b"</title", start) if start >= 0 else -1
    if end < 0:
        return b""
    text = body[start + 1 : min(end, start + 1 + MOST_TITLE)].decode("utf-8", "replace")
    return " ".join(html.unescape(text).split()).encode()


def _generator_in(body: bytes) -> bytes:
    """The content of `<meta name="generator" content="…">`; b"" without one, or with its attributes in another order."""
    mark = b'<meta name="generator" content="'
    start = body.lower().find(mark)
    return body[start + len(mark) :].split(b'"', 1)[0] if start >= 0 else b""
