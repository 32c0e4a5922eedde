"""cnntune: the CS231n lecture on training CNNs, as a tool.

From Python, `cnntune.sanity(model, loader, loss=...)` checks a set-up, `cnntune.lr_sweep` finds a
learning rate, `cnntune.observe()` judges a training loop while it runs, and
`cnntune.diagnose(history)` judges learning curves; docs/python-api.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnntune.api.checked import sanity
    from cnntune.api.diagnosed import Diagnosed, diagnose
    from cnntune.api.result import FailedError, Result
    from cnntune.api.seen import Observed, observe
    from cnntune.api.swept import Swept, lr_sweep

PLACES = {
    "checked": ("sanity",),
    "diagnosed": ("Diagnosed", "diagnose"),
    "result": ("FailedError", "Result"),
    "seen": ("Observed", "observe"),
    "swept": ("Swept", "lr_sweep"),
}

__all__ = [
    "Diagnosed",
    "FailedError",
    "Observed",
    "Result",
    "Swept",
    "__version__",
    "diagnose",
    "lr_sweep",
    "observe",
    "sanity",
]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Load a function when it is asked for: the version alone has to cost nothing."""
    for module, names in PLACES.items():
        if name in names:
            import random

            state = random.getstate()  # a library that is imported draws from it
            try:
                return getattr(import_module(f"cnntune.api.{module}"), name)
            finally:
                random.setstate(state)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, which are not loaded yet."""
    return __all__
