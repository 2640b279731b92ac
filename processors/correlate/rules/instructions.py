"""Text from the network that speaks to a language model: an attempt at prompt injection, whoever may read it.

Recognised by wording, so that what is worded otherwise is not. Nothing depends on it: no text from the network is ever an instruction here
(DESIGN.md 4.6); the attempt is told because it says something of the machine that makes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from processors.correlate.contract import Judgement, Rule, ServiceFacts, printable

TEXT_LIMIT = 600
"""Characters of one text that are looked at; a banner has at most 512."""
SHORTEST = 12
SHOWN = 120
MODELS = (
    r"(?:ai|a\.i\.|llms?|(?:large )?language models?|chat ?bots?|gpt(?:-?\d\w*)?|chatgpt|claude|gemini|copilot"
    r"|ai (?:assistant|agent|analyst)s?)"
)
EARLIER = r"(?:previous|prior|preceding|above|earlier|former|foregoing|initial|original|existing|system|your)"
ORDERS = r"(?:instructions?|prompts?|rules?|guidelines?|directives?|orders?|context)"
TO_WHOM = r"(?:dear|hey|hello|hi|attention|note (?:to|for)|message (?:to|for)|instructions? (?:to|for)|important(?: for)?)"
VERDICT = (
    r"(?:set|lower|change|reduce|rate|classify|mark|downgrade|report|treat)\b.{0,40}"
    r"\b(?:risk|severity|finding|score|exposure|host|service|this)"
)
HARMLESS = r"(?:safe|benign|low|resolved|trusted|false positive|informational|not vulnerable)"
PHRASES = (
    # take back what the model was told
    rf"\b(?:ignore|disregard|forget|override|bypass|discard)\b.{{0,40}}\b{EARLIER}\b.{{0,30}}\b{ORDERS}\b",
    rf"\b(?:new|updated|real|actual) {ORDERS}\b.{{0,10}}[:=]",
    r"\b(?:system|developer|hidden|initial) prompt\b",
    r"\bprompt injection\b|\bjailbreak\b",
    r"\b(?:reveal|print|repeat|show|leak|output|disclose)\b.{0,20}\b(?:your|the|all)\b.{0,20}\b(?:prompt|instructions|api key)\b",
    # the marks of chat templates, and of an answer that is put into the model's mouth
    r"<\|[a-z ]{2,20}\|>|\[/?inst\]|<</?sys>>|#{2,} ?(?:system|instructions?|assistant|response)\b ?:?",
    r"</?(?:assistant|instructions?|tool calls?|function calls?|untrusted)>",
    r"[\"'](?:evidence ids|follow ups|tool calls)\\?[\"']",
    (
        r"(?:^|[\n>\]}.;!] ?)(?:assistant|system|developer) ?[:>] ?"
        r"(?:you|ignore|set|mark|treat|respond|reply|the (?:risk|finding)|this (?:is|host)|do not)\b"
    ),
    # who is spoken to
    rf"\b{TO_WHOM}\b[ ,:]{{1,3}}(?:the |any |all )?\b{MODELS}\b",
    rf"\byou are (?:now |no longer )?(?:a |an |the |in )?.{{0,30}}\b(?:{MODELS}|assistant|developer mode|dan)\b",
    rf"\bif you are an? {MODELS}\b|\bas an? {MODELS}\b",
    # what the verdict is to be
    rf"\b{VERDICT}\b.{{0,20}}\b(?:to (?:0|zero|low|none|info\w*)|as (?:a )?{HARMLESS})\b",
    r"\b(?:risk|severity|score)\b ?(?:is|must be|should be|shall be|=|:) ?(?:0|zero|none|low|informational)\b",
    r"\b(?:do not|don't|never) (?:report|flag|mention|raise|escalate)\b.{0,30}\b(?:this|finding|vulnerabilit|host|service|exposure)",
    r"\b(?:respond|reply|answer|output) (?:only |exactly )?(?:with|in) (?:json|only|exactly|the following|valid|\{)",
    r"\b(?:call|invoke|use) the\b.{0,30}\b(?:tool|function)\b.{0,10}(?:to|with|and|:)",
    # the first of these in other tongues
    r"\bignorier\w* .{0,30}\b(?:anweisung|instruktion)",
    r"\bignore[zr]? .{0,30}\binstructions (?:pr[ée]c[ée]dentes|ant[ée]rieures)",
    r"\bignor[ae]\w* .{0,30}\b(?:instrucciones|istruzioni|instru[çc][õo]es)",
    r"игнорируй\w* .{0,40}(?:инструкц|указани)",
    r"(?:忽略|无视|無視).{0,10}(?:指令|指示|说明|規則|规则|命令)",
)
INJECTION = re.compile("|".join(f"(?:{one})" for one in PHRASES), re.DOTALL)
HINTS = re.compile(
    r"ignor|disregard|forget|overrid|bypass|discard|instruct|prompt|jailbreak|<\||inst\]|sys>|## ?|assistant|tool|function|evidence ids"
    r"|follow ups|untrusted|system|developer|you are|\bai\b|a\.i\.|llm|language|chat ?bot|gpt|claude|gemini|copilot|risk|severity|score"
    r"|finding|report|respond|reply|answer|output|api key|rule|directive|guideline|order|context|this|игнор|忽略|无视|無視"
)
"""One of these is in whatever `INJECTION` matches. Most texts hold none, and are done with after this."""
SQUASHED = re.compile(
    r"(?:ignore|disregard|forget|override)(?:all|any|the|your)*(?:previous|prior|above|earlier)(?:instruction|prompt|rule)"
)
"""For words that are torn apart: `i-g-n-o-r-e all p_r_e_v_i_o_u_s instructions`."""
NOT_LETTERS = re.compile(r"[^a-z]+")
SPACES = re.compile(r"[ \t\r\f\v_+]+|%20")


def spoken(text: str) -> str | None:
    """The part of a text that speaks to a language model; None if none does."""
    plain = plain_of(text)
    found = INJECTION.search(plain) if HINTS.search(plain) else None
    if found is not None:
        return plain[max(0, found.start() - 20) :]
    return plain if SQUASHED.search(NOT_LETTERS.sub("", plain)) else None


def plain_of(text: str) -> str:
    """A text as a model reads it: compatibility forms (UAX 15, NFKC), lower case, single spaces, nothing invisible."""
    shown = text[:TEXT_LIMIT]
    if not shown.isascii():
        composed = unicodedata.normalize("NFKC", shown)
        shown = "".join(one for one in composed if unicodedata.category(one) not in ("Cf", "Mn", "Cc") or one in "\n\t ")
    return SPACES.sub(" ", shown.lower())


def texts_of(facts: ServiceFacts) -> Iterator[tuple[str, str]]:
    """Every text of a service that whoever runs it could choose, with where it stands."""
    service = facts.service
    yield from (("banner", service.banner), ("product", service.product), ("version", service.version), ("extra", service.extra))
    yield from (("host name", name) for name in facts.names)
    if service.http is not None:
        yield from (("title", service.http.title), ("server", service.http.server), ("location", service.http.location))
        yield from ((f"header {name}", value) for name, value in service.http.headers.items())
    certificate = service.tls.certificate if service.tls is not None else None
    if certificate is not None:
        yield from (("certificate subject", certificate.subject), ("certificate issuer", certificate.issuer))
        yield from (("certificate name", name) for name in certificate.names)
    yield from ((f"fact {name}", value) for name, value in service.facts.items())


def prompt_injection(facts: ServiceFacts) -> Judgement | None:
    """What the service says is addressed to a language model."""
    for where, text in texts_of(facts):
        if len(text) >= SHORTEST and (said := spoken(text)) is not None:
            return Judgement(
                "A service speaks to language models",
                "Its text reads as an instruction to a machine that analyses it. Whoever wrote it may control the host.",
                "Find out who wrote the text, and treat the host as suspect. Check what your other tools did after they read it.",
                base=45,
                floor=25,
                ceiling=75,
                saw=f"{where}: '{printable(said, SHOWN)}'",
                proven=True,
            )
    return None


RULES = (
    Rule(
        "prompt-injection",
        "OWASP LLM01:2025; MITRE ATLAS AML.T0051.001",
        "A banner, header, title, name or certificate is worded as an instruction to a language model. Other wordings are not recognised.",
        prompt_injection,
    ),
)
