"""Derive independent random seeds from one seed."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in `0 ... 2**63 - 1` that depends only on all of `parts`.

    Equal parts give an equal seed on every machine and in every process, unlike `hash()`.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
