"""What an observation says, told by its bytes alone: most looks find what the last one found, and need not be decoded.

Avro writes a record's fields one after the other (Avro 1.12, "Binary Encoding"): a string is its length, twice, and its bytes. The ids
at the head of a HostObservation and the time at its end differ with every look; what lies between is the sighting.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = 5  # magic byte and schema id
HOST_OBSERVATION = 2  # the second branch of the union of `probes`, zigzag
CAMPAIGN = 2  # the second branch: not null
TIME_BYTES = 6  # of the milliseconds of any moment between 1986 and 2039
IDS_BEFORE, IDS_BETWEEN = 3, 2  # observation, unit and run id; grant and agent id


class Glance(NamedTuple):
    """A sighting: its asset's key, when it was (ms since 1970), and the bytes that are equal where two looks found the same."""

    key: str
    at: int
    sighting: tuple[bytes, bytes]


def glance(value: bytes, header: bytes) -> Glance | None:
    """The sighting in a record of `probes` that begins with this header.

    None for any other record, and for one that is not written in the plainest way.
    """
    try:
        if value[HEAD] != HOST_OBSERVATION or not value.startswith(header):
            return None
        place = _after_strings(value, HEAD + 1, IDS_BEFORE)
        if value[place] > CAMPAIGN:
            return None
        place = _after_strings(value, place + 1, value[place] // CAMPAIGN)  # campaign id, or null
        zone, subnet = place, _after_strings(value, place, 1)
        address = _after_strings(value, subnet, 1)
        end = _after_strings(value, address, 1)
        names = _after_strings(value, end, IDS_BETWEEN) + 1  # the attempt: one byte
        head, time = value[HEAD:names], value[-TIME_BYTES:]
        # All of it below 128: every length is one byte, every string valid. Of the time, all bytes but the last go on (a varint).
        if not head.isascii() or any(byte < 0x80 for byte in time[:-1]) or time[-1] >= 0x80:
            return None
        key = f"{value[zone + 1 : subnet].decode()}|{value[address + 1 : end].decode()}"
        return Glance(key, _milliseconds(time), (value[zone:end], value[names:-TIME_BYTES]))
    except (IndexError, UnicodeDecodeError):
        return None


def _after_strings(value: bytes, place: int, count: int) -> int:
    for _ in range(count):
        if value[place] & 1:
            raise IndexError  # a negative length
        place += 1 + (value[place] >> 1)
    return place


def _milliseconds(time: bytes) -> int:
    number = 0
    for byte in reversed(time):
        number = number << 7 | byte & 0x7F
    return number >> 1 ^ -(number & 1)
