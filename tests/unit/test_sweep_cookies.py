"""The keyed hash of sequence numbers against published vectors and against CPython's own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from processors.scan.sweep.cookies import cookies, siphash

KEY = bytes(range(16))


def words(message: bytes) -> list[np.ndarray[tuple[int], np.dtype[np.uint64]]]:
    return [np.frombuffer(message[start : start + 8], dtype="<u8").copy() for start in range(0, len(message), 8)]


def test_published_vectors_of_siphash_2_4() -> None:
    """Appendix A of the paper, and the vectors of 8 and 16 bytes of its reference code."""
    assert int(siphash(KEY, words(bytes(range(8))), 2, 4)[0]) == 0x93F5F5799A932462
    assert int(siphash(KEY, words(bytes(range(16))), 2, 4)[0]) == 0x3F2ACC7F57C29BDB


def test_one_and_three_rounds_are_cpythons_hash_of_bytes() -> None:
    code = "import sys; assert sys.hash_info.algorithm == 'siphash13'; print(hash(bytes(range(1, 17))))"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True
    )
    assert int(siphash(bytes(16), words(bytes(range(1, 17))))[0]) == int(told.stdout) % (1 << 64)


def test_cookies_differ_by_address_port_attempt_and_secret() -> None:
    address, port = np.arange(5, dtype=np.uint64), np.full(5, 443, dtype=np.uint64)
    found = [
        cookies(KEY, [address], port, np.uint64(1)),
        cookies(KEY, [address], port, np.uint64(2)),
        cookies(KEY, [address], port + np.uint64(1), np.uint64(1)),
        cookies(KEY[::-1], [address], port, np.uint64(1)),
        cookies(KEY, [address, address], port, np.uint64(1)),
    ]
    assert len(np.unique(np.concatenate(found))) == 25
