"""What a service says of itself in its first words. Pure. Only what is plainly stated; the fingerprint table of `enrich` knows more."""

from __future__ import annotations

import re

from processors.scan.probing.evidence import Evidence, clean

MOST_BYTES = 4096  # of a greeting that are looked at

# Possessive (`++`) where what follows could be taken by the repetition too: otherwise a long number would take the square of its length.
# (service, pattern over the first bytes with the groups product, version, extra where it states them, product if it is implied)
GREETINGS: tuple[tuple[str, re.Pattern[bytes], str], ...] = (
    ("ssh", re.compile(rb"SSH-[\d.]+-(?P<product>OpenSSH)_(?P<version>[\w.]+)(?: (?P<extra>[^\r\n]+))?"), ""),
    ("ssh", re.compile(rb"SSH-[\d.]+-(?P<product>dropbear)_(?P<version>[\w.]+)"), ""),
    ("ssh", re.compile(rb"SSH-[\d.]+-(?P<extra>[^\r\n]+)"), ""),  # RFC 4253, 4.2
    (
        "ftp",
        re.compile(rb"220[ -][^\r\n]*?(?P<product>vsFTPd|ProFTPD|Pure-FTPd|FileZilla Server) ?(?P<version>[\d.]+[a-z]?)?", re.IGNORECASE),
        "",
    ),
    ("ftp", re.compile(rb"220[ -][^\r\n]*FTP", re.IGNORECASE), ""),
    ("smtp", re.compile(rb"220[ -][^\r\n]*?(?P<product>Postfix|Exim|Sendmail|OpenSMTPD)(?: (?P<version>\d[\w.]*))?", re.IGNORECASE), ""),
    ("smtp", re.compile(rb"220[ -][^\r\n]*E?SMTP", re.IGNORECASE), ""),  # RFC 5321, 4.2
    ("pop3", re.compile(rb"\+OK[^\r\n]*?(?P<product>Dovecot)"), ""),
    ("pop3", re.compile(rb"\+OK [^\r\n]*(?:POP3|ready)", re.IGNORECASE), ""),
    ("imap", re.compile(rb"\* OK[^\r\n]*?(?P<product>Dovecot)"), ""),
    ("imap", re.compile(rb"\* OK[^\r\n]*IMAP", re.IGNORECASE), ""),
    ("vnc", re.compile(rb"RFB (?P<extra>\d{3}\.\d{3})\n"), ""),  # RFC 6143, 7.1.1
    ("mysql", re.compile(rb"...\x00\x0a(?:5\.5\.5-)?(?P<version>[\d.]++)-(?P<product>MariaDB)", re.DOTALL), ""),
    ("mysql", re.compile(rb"...\x00\x0a(?P<version>[\d.]++)[^\x00]*+\x00", re.DOTALL), "MySQL"),
    ("telnet", re.compile(rb"\xff[\xfb-\xfe]"), ""),  # RFC 854: negotiation
    ("http", re.compile(rb"HTTP/1\.[01] \d{3}"), ""),
    ("redis", re.compile(rb"-(?:NOAUTH |DENIED Redis |ERR wrong number of arguments for 'get')"), "Redis"),
)


def read_greeting(data: bytes) -> Evidence:
    """What the first bytes of a server say. The banner is a line; of a binary greeting, which may hold a nonce, what was understood."""
    data = data[:MOST_BYTES]
    for service, pattern, implied in GREETINGS:
        found = pattern.match(data)
        if found:
            named = {name: clean(value) for name, value in found.groupdict().items() if value}
            banner = clean(found.group()) if service in ("mysql", "telnet") else first_line(data)
            product = named.get("product", implied)
            return Evidence(service, product, named.get("version", ""), named.get("extra", ""), banner=banner)
    return Evidence(banner=first_line(data))


def first_line(data: bytes) -> str:
    """The first line that is not blank, cleaned."""
    return next((line for line in map(clean, data[:MOST_BYTES].splitlines()) if line), "")
