"""A real HTTP server on loopback that speaks the OpenAI chat completions API, for tests: it answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """A response that is not what the API promises. `raw`: the body as it is; `cut`: so much of it is sent, and the connection closed.

    `status` None: the connection is closed without a word. `drip`: seconds between its bytes.
    """

    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes = b""
    cut: int | None = None
    drip: float = 0.0


Answer = dict[str, Any] | str | int | Fault
"""A structured answer, raw text as the model's message, an HTTP status to fail with, or a fault."""


@dataclass(slots=True)
class ModelServer:
    """What the server was asked, and how it answers: `answer` maps the user's message to an answer. `release` ends a slow answer."""

    answer: Callable[[str], Answer]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    slow: bool = False
    release: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def running_model(answer: Callable[[str], Answer]) -> Iterator[ModelServer]:
    """A running server; its `url` is what `DRIFTLINE_MODEL__BASE_URL` takes."""
    server = ModelServer(answer)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        http.shutdown()
        http.server_close()
        thread.join(5)


def completion(content: Any, model: str = "test-model", **over: Any) -> dict[str, Any]:
    """The body of a good response whose message has this content."""
    message = {"role": "assistant", "content": content, "refusal": None}
    usage = {"prompt_tokens": 321, "completion_tokens": 45, "total_tokens": 366}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage, **over}


def fail(handler: BaseHTTPRequestHandler, fault: Fault, release: threading.Event) -> None:
    """Answer as a fault says."""
    if fault.status is None:
        return
    handler.send_response(fault.status)
    for name, value in (("content-type", "application/json"), ("content-length", str(len(fault.raw))), *fault.headers):
        handler.send_header(name, value)
    handler.send_header("connection", "close")
    handler.end_headers()
    if not fault.drip:
        handler.wfile.write(fault.raw[: fault.cut])
        return
    for one in fault.raw:
        handler.wfile.write(bytes((one,)))
        handler.wfile.flush()
        if release.wait(fault.drip):
            return


def handler_for(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    """The request handler of one server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.asked.append({"path": self.path, "authorization": self.headers.get("authorization", ""), **request})
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                if server.slow:
                    server.release.wait(20)
                self._reply(server.answer(str(request["messages"][-1]["content"])), request["model"])
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with server.lock:
                    server.at_once -= 1

        def _reply(self, answer: Answer, model: str) -> None:
            if isinstance(answer, Fault):
                self.close_connection = True
                fail(self, answer, server.release)
                return
            if isinstance(answer, int):
                self._send(
                    answer,
                    {
                        "error": {
                            "message": f"the model is not well, {self.headers.get('authorization')}",
                            "type": "server_error",
                            "code": None,
                            "param": None,
                        }
                    },
                )
                return
            self._send(200, completion(answer if isinstance(answer, str) else json.dumps(answer), model))

        def _send(self, status: int, body: dict[str, Any]) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.send_header("connection", "close")  # LangChain keeps its client to itself: nobody else could close what is kept alive
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name for it
            del format, args

    return Handler
