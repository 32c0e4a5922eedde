"""One number in, many independent streams out."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in `0 ... 2**63 - 1` that depends on every part and on nothing else.

    Same parts, same seed, on every machine and in every process; `hash()` would not do.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
