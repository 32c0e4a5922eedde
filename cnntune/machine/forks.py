"""Where a process may start as a fork of another one."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

FORKS = sys.platform == "linux"  # elsewhere system libraries do not survive a fork


@contextmanager
def forking() -> Iterator[None]:
    """Fork within the block without the warning of Python 3.12 and later about threads.

    Python warns because a lock that another thread holds stays locked in the fork. Forks of cnntune
    read images, or compute in a thread that torch starts anew; PyTorch forks its loaders too.
    """
    with warnings.catch_warnings():
        text = r"This process \(pid=\d+\) is multi-threaded, use of fork\(\)"
        warnings.filterwarnings("ignore", text, DeprecationWarning)
        yield
