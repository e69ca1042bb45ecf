"""SPHERE packed with Shorten, as on the discs of WSJ0: the little of it that the tests need."""

import numpy as np

LITTLE_ENDIAN_16 = 5
DIFF1, QUIT, BLOCKSIZE = 1, 4, 5  # commands
BLOCK = 256  # samples


def packed_sphere(samples: np.ndarray, rate: int) -> bytes:
    """int16 samples [T] as a file with first differences, Rice-coded."""
    fields = {
        "channel_count": 1,
        "sample_count": len(samples),
        "sample_rate": rate,
        "sample_n_bytes": 2,
        "sample_sig_bits": 16,
    }
    lines = [f"{key} -i {value}\n" for key, value in fields.items()]
    lines += ["sample_byte_format -s2 01\n", "sample_coding -s26 pcm,embedded-shorten-v2.00\n"]
    header = "NIST_1A\n   1024\n" + "".join(lines) + "end_head\n"
    return header.encode().ljust(1024) + b"ajkg\x02" + _shorten(samples.astype(int))


def _shorten(samples: np.ndarray) -> bytes:
    channels, order, means, skipped = 1, 0, 1, 0
    bits = [
        b for v in (LITTLE_ENDIAN_16, channels, BLOCK, order, means, skipped) for b in _ulong(v)
    ]
    differences = np.diff(samples, prepend=0)
    for begin in range(0, len(samples), BLOCK):
        block = differences[begin : begin + BLOCK]
        if len(block) < BLOCK:
            bits += _rice(BLOCKSIZE, 2) + _ulong(len(block))
        energy = int(np.log2(np.abs(block).mean() + 1))
        bits += _rice(DIFF1, 2) + _rice(energy, 3)
        for value in block.tolist():
            bits += _rice(~value << 1 | 1 if value < 0 else value << 1, energy + 1)
    bits += _rice(QUIT, 2)
    return np.packbits(bits + [0] * (-len(bits) % 32)).tobytes()


def _rice(value: int, low: int) -> list[int]:
    """The high bits in unary, a one, and the low bits."""
    return [0] * (value >> low) + [1] + [value >> i & 1 for i in reversed(range(low))]


def _ulong(value: int) -> list[int]:
    length = value.bit_length()
    return _rice(length, 2) + _rice(value, length)
