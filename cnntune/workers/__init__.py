"""Processes that train: how they start, get jobs, answer and end, and how many fit.

It must not know Optuna, spaces or findings. `worker` and `memory_probe` import torch; they are
loaded by name, in the processes.
"""
