"""Where the command line starts; `python -m cnntune` is `cnntune`."""

import gc
import sys
from typing import NoReturn

# New objects between two garbage collections. What is imported is no garbage: with the default of
# Python, 700 to 2,000, collections take a twentieth of the time of `--help`, and 0.15 s while torch
# is imported.
GARBAGE_EVERY = 50_000


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is imported is no traceback either."""
    gc.set_threshold(GARBAGE_EVERY)
    try:
        from cnntune import cli
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)  # as `cli.STOPPED`, which is not imported yet
    cli.main()


if __name__ == "__main__":  # worker processes import this file too
    main()
