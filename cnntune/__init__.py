"""cnntune: the CS231n lecture on training CNNs, as a tool.

From Python, `cnntune.diagnose(history)` judges the learning curves of any library; docs/python.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnntune.api import Diagnosed, FailedError, Result, diagnose

__all__ = ["Diagnosed", "FailedError", "Result", "__version__", "diagnose"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Load a function when it is asked for: the version alone has to cost nothing."""
    if name in __all__:
        from cnntune import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, which are not loaded yet."""
    return __all__
