"""`python -m cnntune` is `cnntune`."""

from cnntune.cli import main

if __name__ == "__main__":  # worker processes import this file too
    main()
