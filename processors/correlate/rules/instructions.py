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
    r"(?:ai|a\.i\.|llms?|(?:large )?language models?|chat ?bots?|gpt(?:-?\d\w*)?|chatgpt|openai|claude|gemini|copilot"
    r"|ai (?:assistant|agent|analyst|scanner|model|system|bot)s?"
    r"|(?:automated|automatic) (?:triage|analysis|analyst|agent|assistant|reviewer)(?: bot)?"
    r"|triage bot|dear model|analyst (?:who is )?reading this)"
)
EARLIER = r"(?:previous|prior|preceding|above|earlier|former|foregoing|initial|original|existing|system|your)"
ORDERS = r"(?:instructions?|prompts?|rules?|guidelines?|directives?|orders?|context|messages?|tasks?)"
TO_WHOM = r"(?:dear|hey|hello|hi|attention|to(?: the)?|note (?:to|for)|message (?:to|for)|instructions? (?:to|for)|important(?: for)?)"
WHAT = (
    r"(?:risk|severity|priority|findings?|score|exposure|hosts?|machine|server|service|asset|alert"
    r"|issue|entry|vulnerabilit(?:y|ies)|this|it)"
)
HARMLESS = (
    r"(?:safe|benign|harmless|low|resolved|approved|trusted|fine|ok|clean|closed|false positive|informational|not vulnerable|no risk"
    r"|not (?:a )?risk|irrelevant)"
)
JUDGE = (
    r"(?:set|lower|change|reduce|rate|classify|mark|downgrade|report|treat|list|label|consider|close|score|flag|regard|record|count|keep"
    r"|assess|rank|assign)"
)
PHRASES: tuple[tuple[tuple[str, ...], str], ...] = (
    # take back what the model was told
    (
        ("ignor", "disreg", "forget", "overrid", "bypass", "discard", "neglect", "abandon"),
        rf"\b(?:ignore|disregard|forget|override|bypass|discard|neglect|abandon)\b.{{0,40}}\b{EARLIER}\b.{{0,30}}\b{ORDERS}\b",
    ),
    (
        ("ignore", "forget", "disregard"),
        (
            r"\b(?:ignore|forget|disregard) (?:about )?(?:the|this|that|all|any)(?: of)?(?: the)? (?:data"
            r"|findings?|evidence|json|alert|risk|above|input)\b"
        ),
    ),
    (("attention to", "never mind", "nevermind"), rf"\b(?:pay no attention to|never ?mind)\b.{{0,30}}\b(?:{EARLIER}|{ORDERS}|data)\b"),
    (
        ("you were", "you have been", "you've been"),
        r"\b(?:what(?:ever)?|everything|all) you(?: were| have been|'ve been) (?:told|given|instructed|asked)\b",
    ),
    (
        ("instruction", "guideline", "task", "objective"),
        r"\byour (?:instructions?|guidelines?|tasks?|objectives?)\b.{0,30}\b(?:updated|changed|replaced|void|cancell?ed|over|now)\b",
    ),
    (
        ("new ", "updated ", "real ", "actual "),
        (
            r"\b(?:new|updated|real|actual) (?:instructions?|prompts?|rules?|guidelines?|directives?|orders?"
            r"|tasks?|objectives?|goals?|mission)\b.{0,10}[:=]"
        ),
    ),
    (("prompt",), r"\b(?:system|developer|hidden|initial) prompt\b|\bprompt injection\b|\bprompt ?:.{0,20}\b(?:respond|answer|say|write)"),
    (("jailbreak",), r"\bjailbreak\b"),
    (
        ("prompt", "instructions", "api key"),
        r"\b(?:reveal|print|repeat|show|leak|output|disclose)\b.{0,20}\b(?:your|the|all)\b.{0,20}\b(?:prompt|instructions|api key)\b",
    ),
    # the marks of chat templates, and of an answer that is put into the model's mouth
    (("<|", "inst]", "sys>", "##"), r"<\|[a-z ]{2,20}\|>|\[/?inst\]|<</?sys>>|#{2,} ?(?:system|instructions?|assistant|response)\b ?:?"),
    (("<",), r"</?(?:assistant|instructions?|tool calls?|function calls?|untrusted)>"),
    (("evidence ids", "follow ups", "tool calls"), r"[\"'](?:evidence ids|follow ups|tool calls)\\?[\"']"),
    (("role",), r"[\"']role\\?[\"'] ?: ?\\?[\"'](?:system|assistant|developer|user)"),
    (("assistant:", "assistant :"), r"\b(?:human|user) ?:.{0,120}\bassistant ?:"),
    (("human:",), r"(?:^|\n|\\n)human: ?\w+"),
    (
        ("assistant", "system", "developer"),
        (
            r"(?:^|[\n>\]}.;!] ?)(?:assistant|system|developer) ?[:>] ?"
            r"(?:you|ignore|set|mark|treat|respond|reply|the (?:risk|finding)|this (?:is|host)|do not)\b"
        ),
    ),
    (
        ("override", "trusted ", "new ", "urgent "),
        r"\bsystem override\b|\b(?:trusted|new|urgent) (?:admin|administrator|system|developer) (?:message|note|order|command)\b",
    ),
    (
        ("end ",),
        (
            r"\bend (?:of )?(?:the )?(?:untrusted )?(?:data|finding|input|prompt|context|json)\b"
            r".{0,60}\b(?:system|now|new|task|you|instead|approve)\b"
        ),
    ),
    # who is spoken to
    (("dear", "hey", "hello", "hi", "attention", "to", "for", "important"), rf"\b{TO_WHOM}\b[ ,:]{{1,3}}(?:the |any |all )?\b{MODELS}\b"),
    (
        (
            "ai",
            "a.i.",
            "llm",
            "language model",
            "chat",
            "gpt",
            "openai",
            "claude",
            "gemini",
            "copilot",
            "automat",
            "bot",
            "model",
            "reading this",
        ),
        (
            rf"\b{MODELS}\b[ ,:!.-]{{1,4}}.{{0,40}}\b(?:skip|omit|dismiss|rate|approve[ds]?|ignore|answer|say"
            rf"|conclude|trust|you must|you should|do not report)\b"
        ),
    ),
    (
        ("you are",),
        (
            rf"\byou are (?:now |no longer )?(?:a |an |the |in )?.{{0,30}}\b(?:{MODELS}|assistant"
            rf"|developer mode|dan)\b|\bif you are an? {MODELS}\b"
        ),
    ),
    (
        ("as a", "act as"),
        rf"\bas an? {MODELS}\b|\bact as (?:a |an |the |my )?(?:system )?(?:admin\w*|root|shell|terminal|assistant|developer|{MODELS})\b",
    ),
    (
        ("from now on", "henceforth", "pretend"),
        r"\b(?:from now on|henceforth),? you (?:are|will|act|must|should)\b|\bpretend (?:to be|you are|that)\b",
    ),
    (("your developer", "your creator", "your operator"), r"\b(?:i am|i'm|this is) your (?:developer|creator|operator)\b"),
    (("your",), r"\b(?:disable|turn off|drop|lift|remove) your\b.{0,20}\b(?:rules|safety|filters?|guard\w*|restrictions?)\b"),
    (("your",), r"\b(?:in|from) your (?:summary|report|answer|analysis|output|json|verdict|response|list|review)\b"),
    (("you should", "you must", "you may"), r"\byou (?:should|must|may) (?:now )?(?:conclude|answer|respond|say|report that|assume)\b"),
    # what the verdict is to be
    (("to ", "as "), rf"\b{JUDGE}\b.{{0,40}}\b{WHAT}\b.{{0,30}}\b(?:to (?:0|zero|low|none|info\w*)|as (?:a )?{HARMLESS})\b"),
    (("rate", "mark", "score", "call"), rf"\b(?:rate|mark|score|call) (?:this|it|the \w+) (?:as )?{HARMLESS}\b"),
    (
        ("risk", "severity", "score", "priority"),
        (
            r"\b(?:risk|severity)(?: level| score)? (?:is|must be|should be|shall be) (?:0|1|zero|none|low|informational)\b"
            r"|\bset (?:the )?(?:risk|severity|score|priority) ?(?:to|=|:) ?(?:0|1|zero|none|low|info\w*)\b|\{\\?[\"']risk\\?[\"'] ?: ?\d"
        ),
    ),
    (("lower", "reduce"), r"\b(?:lower|reduce) (?:the |its )?(?:priority|severity|risk)\b"),
    (
        ("not ", "don't", "never"),
        r"\b(?:do not|don't|never) (?:report|flag|mention|raise|escalate)\b.{0,30}\b(?:this|finding|vulnerabilit|host|service|exposure)",
    ),
    (
        ("omit", "leave", "exclud", "drop", "skip", "remove", "hide", "dismiss"),
        (
            r"\b(?:omit|leave(?: out)?|exclude|drop|skip|remove|hide|dismiss) (?:this|that) (?:asset|host"
            r"|server|finding|machine|service|alert|issue|entry)\b"
        ),
    ),
    (
        ("finding", "alert", "exposure"),
        (
            r"\b(?:findings?|alerts?|exposures?)\b.{0,30}\b(?:should|must|can|shall|may|to) be (?:closed"
            r"|ignored|dismissed|resolved|approved|accepted"
            r"|suppressed|removed|downgraded)\b|\b(?:approved|accepted|allowed) (?:this|the) (?:exposure|finding|alert)\b"
        ),
    ),
    (
        ("answer", "output", "verdict", "conclusion", "response"),
        r"\b(?:correct|right|only|expected|final|your) (?:answer|output|verdict|conclusion|response) (?:is|must be|should be|:)",
    ),
    (
        ("output", "answer", "respon", "reply", "conclude", "say", "word"),
        (
            r"\b(?:respond|reply|answer|output|conclude|say)\b (?:only |exactly )?(?:with |in |that )?(?:json"
            r"|only|exactly|the following|valid|\{"
            r"|the word|everything is|everything's|nothing (?:was|is)|the scan found|it is safe|no risk)"
        ),
    ),
    (("analys", "analyz"), r"\bstop (?:the |your |all |this )?(?:analysing|analyzing|analysis)\b"),
    (("list",), r"\b(?:add|put)\b.{0,50}\b(?:to|on) (?:the |your )?(?:allow|white|safe) ?-?list\b"),
    (("instead", "next"), r"\b(?:instead|next),? (?:scan|probe|connect to|fetch|download|run|execute|visit)\b"),
    (("tool", "function"), r"\b(?:call|invoke|use) the\b.{0,30}\b(?:tool|function)\b.{0,10}(?:to|with|and|:)"),
    # the first of these in other tongues
    (("ignorier",), r"\bignorier\w* .{0,30}\b(?:anweisung|instruktion)"),
    (("ignor",), r"\bignore[zr]? .{0,30}\binstructions (?:pr[ée]c[ée]dentes|ant[ée]rieures)"),
    (("ignora", "ignore"), r"\bignor[ae]\w* .{0,30}\b(?:instrucciones|istruzioni|instru[çc][õo]es)"),
    (("игнорируй",), r"игнорируй\w* .{0,40}(?:инструкц|указани)"),
    (("忽略", "无视", "無視"), r"(?:忽略|无视|無視).{0,10}(?:指令|指示|说明|規則|规则|命令)"),
)
"""Each with words of which one is in whatever it matches: most texts hold none, and the phrase is not looked for."""
COMPILED = tuple((hints, re.compile(one, re.DOTALL)) for hints, one in PHRASES)
SQUASHED = re.compile(
    r"(?:ignore|disregard|forget|override)(?:all|any|the|your)*(?:previous|prior|above|earlier)(?:instruction|prompt|rule)"
)
"""For words that are torn apart: `i-g-n-o-r-e all p_r_e_v_i_o_u_s instructions`."""
NOT_LETTERS = re.compile(r"[^a-z]+")
SPACES = re.compile(r"[ \t\r\f\v_+]+|%20")


def spoken(text: str) -> str | None:
    """The part of a text that speaks to a language model; None if none does."""
    plain = plain_of(text)
    found = next((match for hints, one in COMPILED if any(hint in plain for hint in hints) and (match := one.search(plain))), None)
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
