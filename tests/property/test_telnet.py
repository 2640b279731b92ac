"""Telnet's negotiation: the text survives whatever stands between, every option is refused, and nothing breaks it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processors.scan.probing.telnet import DO, DONT, IAC, SB, SE, WILL, WONT, negotiates, text_and_reply

COMMANDS = st.one_of(
    st.tuples(st.sampled_from([WILL, WONT, DO, DONT]), st.integers(0, 254)).map(lambda one: bytes((IAC, *one))),
    st.binary(max_size=6).map(lambda body: bytes((IAC, SB)) + body.replace(b"\xff", b"") + bytes((IAC, SE))),
    st.sampled_from([241, 246, 249]).map(lambda command: bytes((IAC, command))),
)
TEXT = st.text("abc 1.2\r\n", max_size=8).map(str.encode)


@given(st.lists(st.tuples(TEXT, COMMANDS), max_size=12), TEXT)
def test_the_text_is_what_stands_between_commands(parts: list[tuple[bytes, bytes]], end: bytes) -> None:
    data = b"".join(text + command for text, command in parts) + end
    text, reply = text_and_reply(data)
    assert text == b"".join(text for text, _ in parts) + end
    asked = [command for _, command in parts if command[1] in (WILL, DO)]
    assert [reply[at : at + 3] for at in range(0, len(reply), 3)] == [bytes((IAC, DONT if c[1] == WILL else WONT, c[2])) for c in asked]


@given(st.binary(max_size=64))
def test_anything_is_read(data: bytes) -> None:
    text, reply = text_and_reply(b"\xff" + data)
    assert len(text) <= len(data) + 1
    assert len(reply) % 3 == 0


def test_a_router_that_negotiates_is_heard() -> None:
    data = b"\xff\xfb\x01\xff\xfb\x03\r\nMikroTik v6.49.10 (stable)\r\nLogin: "
    assert negotiates(data)
    assert text_and_reply(data) == (b"\r\nMikroTik v6.49.10 (stable)\r\nLogin: ", b"\xff\xfe\x01\xff\xfe\x03")
    assert not negotiates(b"220 ready\r\n")
