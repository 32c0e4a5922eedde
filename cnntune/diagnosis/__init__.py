"""From the log of a run to a curve, a label and advice; `logs` reads the formats of other tools.

It must not know torch, Optuna or the commands, so that `cnntune diagnose` starts at once.
"""
