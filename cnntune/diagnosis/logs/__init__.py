"""Readers of training logs, one module per format; none needs the tool that wrote the log."""
