"""cnntune: the CS231n lecture on training CNNs, as a tool."""

__version__ = "0.1.0"
