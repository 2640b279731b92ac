"""What crosses the wire in the clear, or under protocols that are no longer fit."""

from __future__ import annotations

from processors.correlate.contract import Judgement, Rule, ServiceFacts

# Name as nmap identifies it → name for people, and base, floor, ceiling: a shell weighs more than a mailbox.
SHELL, MAILBOX = (70, 50, 90), (42, 20, 65)
PLAINTEXT = {
    "telnet": ("Telnet", SHELL),
    "login": ("rlogin", SHELL),
    "rlogin": ("rlogin", SHELL),
    "shell": ("rsh", SHELL),
    "ftp": ("FTP", MAILBOX),
    "pop3": ("POP3", MAILBOX),
    "imap": ("IMAP", MAILBOX),
}


def plaintext_login(facts: ServiceFacts) -> Judgement | None:
    """A protocol that sends passwords in the clear, by its identified name (not by the port alone)."""
    service = facts.service
    known = PLAINTEXT.get(service.service.lower())
    if known is None or service.tls is not None:
        return None
    name, (base, floor, ceiling) = known
    return Judgement(
        f"{name} sends passwords in the clear",
        "Whoever can listen on the way reads user names and passwords, and can take the session over.",
        "Replace it with an encrypted protocol: SSH or SFTP for logins and files, IMAPS, POP3S or FTPS where the protocol must stay.",
        base=base,
        floor=floor,
        ceiling=ceiling,
        saw=f"{name} without TLS on port {service.port}, {facts.label}",
    )


def outdated_tls(facts: ServiceFacts) -> Judgement | None:
    """TLS 1.0 or 1.1, or SSL, is still accepted."""
    tls = facts.service.tls
    if tls is None or not tls.outdated:
        return None
    ssl = any(version.startswith("SSL") for version in tls.outdated)
    return Judgement(
        "Outdated TLS versions are accepted",
        "TLS 1.0, TLS 1.1 and SSL have known weaknesses; they are deprecated and forbidden by most security standards.",
        "Accept only TLS 1.2 and 1.3.",
        base=50 if ssl else 40,
        floor=20,
        ceiling=65,
        saw=f"accepts {', '.join(sorted(tls.outdated))}",
        proven=True,
    )


def plain_http(facts: ServiceFacts) -> Judgement | None:
    """HTTP in the clear that does not lead on to HTTPS."""
    service = facts.service
    if service.http is None or service.tls is not None or service.http.location.lower().startswith("https://"):
        return None
    login = service.http.status == 401 and "basic" in service.http.headers.get("www-authenticate", "").lower()
    return Judgement(
        "A login over plain HTTP" if login else "A web service is offered over plain HTTP",
        "Whoever can listen on the way reads the passwords that are sent to it."
        if login
        else "What is sent can be read and changed on the way, and a user is not told.",
        "Serve it over HTTPS and redirect HTTP there (with Strict-Transport-Security, RFC 6797).",
        base=50 if login else 18,
        floor=30 if login else 5,
        ceiling=70 if login else 40,
        saw=f"HTTP {service.http.status} on port {service.port} without TLS or a redirect to it",
        proven=True,
    )


RULES = (
    Rule(
        "plaintext-login",
        "CWE-319; CIS Controls v8, 4.6",
        "Telnet, rlogin, rsh, FTP, POP3 or IMAP, as identified by the service's own answer, without TLS.",
        plaintext_login,
        covers=("management-reachable",),
    ),
    Rule(
        "tls-outdated",
        "RFC 8996; NIST SP 800-52r2, 3.1; CWE-327",
        "The server chose TLS 1.1 or older when no newer version was offered.",
        outdated_tls,
    ),
    Rule(
        "plain-http",
        "CWE-319; OWASP Transport Layer Security Cheat Sheet",
        "A web service without TLS that does not redirect to HTTPS; with a Basic login it weighs more.",
        plain_http,
    ),
)
