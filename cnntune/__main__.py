"""Where the command line starts; `python -m cnntune` is `cnntune`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is imported is no traceback either."""
    try:
        from cnntune import cli
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)  # as `cli.STOPPED`, which is not imported yet
    cli.main()


if __name__ == "__main__":  # worker processes import this file too
    main()
