"""From the log of a run to a curve, a label and advice; `logs` reads every tool's format.

It must not know torch, Optuna or the commands, so that `cnntune diagnose` starts at once.
"""
