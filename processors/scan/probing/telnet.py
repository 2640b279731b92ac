"""Telnet's negotiation, which comes before any text: what is said in between, and a polite no to every option (RFC 854, RFC 855). Pure."""

from __future__ import annotations

from typing import Final

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
REFUSAL: Final = {WILL: DONT, DO: WONT}
MOST_OPTIONS: Final = 32


def negotiates(data: bytes) -> bool:
    """Whether a server begins with a command of Telnet."""
    return len(data) > 1 and data[0] == IAC and data[1] >= SE


def text_and_reply(data: bytes) -> tuple[bytes, bytes]:
    """The text without commands, and what to answer so that the server goes on. What is cut off at the end is left out."""
    text, reply, place = bytearray(), bytearray(), 0
    while place < len(data):
        byte = data[place]
        command = data[place + 1] if byte == IAC and place + 1 < len(data) else None
        if byte != IAC:
            text.append(byte)
            place += 1
        elif command == IAC:
            text.append(IAC)
            place += 2
        elif command == SB:
            end = data.find(bytes((IAC, SE)), place)
            place = len(data) if end < 0 else end + 2
        elif command is not None and command >= WILL:
            if command in REFUSAL and place + 2 < len(data) and len(reply) < 3 * MOST_OPTIONS:
                reply += bytes((IAC, REFUSAL[command], data[place + 2]))
            place += 3
        else:
            place += 2
    return bytes(text), bytes(reply)
