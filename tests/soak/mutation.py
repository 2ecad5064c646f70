"""Bytes that are not what they were."""

from __future__ import annotations

from random import Random

_ODD = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff" * 8, b"\0" * 8)


def mutated(rng: Random, text: bytes, near_end: bool = False) -> bytes:
    """Return other bytes: one to four changes of bits, bytes or ranges, or a cut."""
    data = bytearray(text)
    while bytes(data) == text:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            first = max(0, len(data) - 600) if near_end and rng.random() < 0.6 else 0
            at = rng.randrange(first, max(first + 1, len(data)))
            upto = min(len(data), at + rng.choice((1, 2, 8, 100)))
            match rng.randrange(8):
                case 0 | 1:
                    data[at : at + 1] = bytes([(data[at : at + 1] or b"\0")[0] ^ 1 << rng.randrange(8)])
                case 2:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 3:
                    odd = rng.choice(_ODD)
                    data[at : at + len(odd)] = odd
                case 4:
                    del data[at:upto]
                case 5:
                    data[at:at] = data[at:upto] * rng.choice((1, 3))
                case 6:
                    data[at:at] = rng.randbytes(rng.choice((1, 4, 50)))
                case 7:
                    del data[at if rng.random() < 0.3 else upto + (len(data) - upto) // 2 :]
    return bytes(data)
