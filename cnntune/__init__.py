"""cnntune: the CS231n lecture on training CNNs, as a tool.

From Python, `cnntune.diagnose(history)` judges a dict of lists, a Keras History or a DataFrame.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnntune.diagnosis.judge import judge_history as diagnose

__all__ = ["__version__", "diagnose"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Load what judges a history when it is asked for: the version alone has to cost nothing."""
    if name == "diagnose":
        from cnntune.diagnosis.judge import judge_history

        return judge_history
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
