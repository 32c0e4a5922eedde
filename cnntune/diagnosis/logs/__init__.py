"""Readers of training logs, one module a format; none needs the tool that wrote the log."""
