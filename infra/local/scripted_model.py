"""A server on loopback that speaks OpenAI's chat API and answers by a script: it stands in for a model where none is at hand.

It reasons about nothing: its sentences are the rules' own, its evidence is what it was shown, and where a rule is in its script it asks for
a look at one port more. It shows the path of a review, not what a model would find.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "openai:scripted"
CVE = re.compile(r"[^.]*\bCVE-[^.]*\.", re.IGNORECASE)
MOST_BODY = 1 << 20


class ScriptedModel:
    """The running server. `follow_ups` says at which rule it asks for which port of the finding's first address."""

    def __init__(self, follow_ups: Mapping[str, int]) -> None:
        self._follow_ups = dict(follow_ups)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="scripted-model", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def answer(self, user: str) -> dict[str, Any]:
        """The review of the finding that a message shows. Raises ValueError for a message that shows none."""
        finding = json.loads("\n".join(user.splitlines()[1:-1]))
        why = CVE.sub("", str(finding["why"])).strip()
        port = self._follow_ups.get(finding["rule"])
        address = finding["places"][0]["address"] if finding["places"] else ""
        return {
            "risk": finding["base_risk"],
            "explanation": f"{why} The rule {finding['rule']} saw it at {len(finding['places'])} places; the risk stays where it put it.",
            "action": str(finding["action"]),
            "evidence_ids": finding["evidence_ids"][:3],
            "follow_ups": [f"tcp/{port}@{address}"] if port and address else [],
        }


def completion(text: str, model: str, asked: str) -> dict[str, Any]:
    """A response of the chat completions API. Tokens are counted as four characters each."""
    message = {"role": "assistant", "content": text, "refusal": None}
    usage = {"prompt_tokens": len(asked) // 4, "completion_tokens": len(text) // 4, "total_tokens": (len(asked) + len(text)) // 4}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": "scripted", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}


def _handler(script: ScriptedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                request = json.loads(self.rfile.read(min(int(self.headers["content-length"]), MOST_BODY)))
                asked = str(request["messages"][-1]["content"])
                body, status = completion(json.dumps(script.answer(asked)), str(request["model"]), asked), 200
            except (ValueError, KeyError, IndexError, TypeError) as error:
                body, status = {"error": {"message": f"the script has no answer: {error}", "type": "invalid_request_error"}}, 400
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
