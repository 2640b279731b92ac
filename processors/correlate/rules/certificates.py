"""Certificates. Their subject is the certificate's fingerprint, so that one certificate on many hosts is one finding."""

from __future__ import annotations

from datetime import datetime, timedelta

from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable
from schemas.events.observations import Certificate

SOON = timedelta(days=30)
VERY_SOON = timedelta(days=7)
LEAST_BITS = {"rsa": 2048, "dsa": 2048, "ec": 224}


def certificate_of(facts: ServiceFacts) -> Certificate | None:
    """The certificate that the service presented, if any."""
    return facts.service.tls.certificate if facts.service.tls else None


def edges(facts: ServiceFacts) -> tuple[datetime, ...]:
    """When a certificate begins to expire soon, very soon, and expires. Once it has, nothing changes any more."""
    certificate = certificate_of(facts)
    if certificate is None or certificate.not_after <= facts.now:
        return ()
    return tuple(certificate.not_after - before for before in (SOON, VERY_SOON, timedelta()))


def expired(facts: ServiceFacts) -> Judgement | None:
    """Its time is over (RFC 5280, 4.1.2.5: valid through notAfter)."""
    certificate = certificate_of(facts)
    if certificate is None or facts.now < certificate.not_after:
        return None
    return Judgement(
        "A certificate has expired",
        "Clients refuse the connection, or their users learn to click the warning away and would not notice an impostor.",
        "Renew the certificate and automate its renewal (ACME, RFC 8555).",
        base=50,
        floor=30,
        ceiling=70,
        saw=f"{subject_words(certificate)}, expired {certificate.not_after:%Y-%m-%d}",
        subject=certificate.sha256,
        proven=True,
    )


def expiring(facts: ServiceFacts) -> Judgement | None:
    """Less than 30 days left; less than 7 weigh more."""
    certificate = certificate_of(facts)
    if certificate is None or not timedelta() < certificate.not_after - facts.now <= SOON:  # no date less a span: year 1 has none before
        return None
    hurry = certificate.not_after - facts.now <= VERY_SOON
    return Judgement(
        f"A certificate expires in less than {7 if hurry else 30} days",
        "When it expires, clients that check certificates can no longer use the service.",
        "Renew the certificate now and automate its renewal (ACME, RFC 8555).",
        base=40 if hurry else 20,
        floor=10,
        ceiling=55 if hurry else 40,
        saw=f"{subject_words(certificate)}, valid until {certificate.not_after:%Y-%m-%d}",
        subject=certificate.sha256,
        proven=True,
    )


def self_signed(facts: ServiceFacts) -> Judgement | None:
    """Nobody vouches for the key."""
    certificate = certificate_of(facts)
    if certificate is None or not certificate.self_signed:
        return None
    return Judgement(
        "A certificate is self-signed",
        "Clients can't tell the service from an impostor, so that traffic to it can be intercepted.",
        "Use a certificate from an authority that the clients trust: a public one, or the organisation's own.",
        base=25,
        floor=10,
        ceiling=45,
        saw=f"{subject_words(certificate)}, issued by itself",
        subject=certificate.sha256,
        proven=True,
    )


def weak_key(facts: ServiceFacts) -> Judgement | None:
    """A key or a signature that no longer resists."""
    certificate = certificate_of(facts)
    if certificate is None:
        return None
    least = LEAST_BITS.get(certificate.key_type.lower(), 0)
    broken = certificate.signature_hash.lower() in ("md5", "sha1")
    if certificate.key_bits >= least and not broken:
        return None
    return Judgement(
        "A certificate uses a weak key or signature",
        "Keys below 112 bits of security, and signatures over MD5 or SHA-1, can be broken or forged by an attacker with means.",
        "Issue a new certificate with a key of at least RSA 2048 or P-256, signed with SHA-256.",
        base=45,
        floor=25,
        ceiling=65,
        saw=f"{subject_words(certificate)}, {printable(certificate.key_type, 20)} {certificate.key_bits} bits, "
        f"signature {printable(certificate.signature_hash, 20) or 'unknown'}",
        subject=certificate.sha256,
        proven=True,
    )


def wrong_name(facts: ServiceFacts) -> Judgement | None:
    """The certificate is for other names than the host's (RFC 9525, 6.3). Self-signed ones have a rule of their own."""
    certificate = certificate_of(facts)
    if certificate is None or certificate.self_signed or not facts.names or facts.address in certificate.names:
        return None
    if any(names(presented, name) for presented in certificate.names for name in facts.names):
        return None
    return Judgement(
        "A certificate is for another name",
        "Clients that check names refuse the connection, or their users learn to click the warning away and would not notice an impostor.",
        "Present a certificate that holds the host's name, or take the name out of DNS if the host should not be reached by it.",
        base=28,
        floor=10,
        ceiling=50,
        saw=f"looked at as {printable(', '.join(facts.names[:3]), 80)}; {subject_words(certificate)} is for "
        f"{printable(', '.join(certificate.names[:5]), 120) or 'no name'}",
        proven=True,
    )


def names(presented: str, name: str) -> bool:
    """Whether a certificate's DNS name is this host's; `*` stands for exactly the first label (RFC 9525, 6.3)."""
    wanted, given = name.rstrip(".").lower(), presented.rstrip(".").lower()
    return given == wanted or (given.startswith("*.") and given[2:] == wanted.partition(".")[2])


def subject_words(certificate: Certificate) -> str:
    """Whose certificate it is, in words."""
    return f"certificate of {printable(certificate.subject, 80) or 'nobody'} ({certificate.sha256[:12]})"


RULES = (
    Rule(
        "certificate-expired",
        "CWE-298; RFC 5280, 4.1.2.5",
        "The presented certificate's notAfter has passed.",
        expired,
        edges,
    ),
    Rule(
        "certificate-expiring",
        "CIS Controls v8, 3.10; NIST SP 1800-16",
        "The presented certificate ends in less than 30 days; in less than 7 it weighs more.",
        expiring,
        edges,
    ),
    Rule("certificate-self-signed", "CWE-295; NIST SP 800-52r2, 3.2", "The presented certificate was issued by itself.", self_signed),
    Rule(
        "certificate-weak",
        "CWE-326; NIST SP 800-131A r2; NIST SP 800-52r2, 3.2",
        "RSA or DSA below 2048 bits, EC below 224 bits, or a signature over MD5 or SHA-1.",
        weak_key,
    ),
    Rule(
        "certificate-wrong-name",
        "CWE-297; RFC 9525, 6.3",
        "The host was looked at by name, and the presented certificate holds none of its names. Known only where targets are named.",
        wrong_name,
    ),
)
