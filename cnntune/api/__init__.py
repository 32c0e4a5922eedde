"""What users import: the commands as functions, each with a `Result`.

It must not know how anything is computed or drawn: it converts Python values, calls what the
command calls, and collects document, text and HTML.
"""

from cnntune.api.diagnosed import Diagnosed, diagnose
from cnntune.api.result import FailedError, Result

__all__ = ["Diagnosed", "FailedError", "Result", "diagnose"]
