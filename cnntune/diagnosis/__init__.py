"""From the log of a run to a curve, a label and advice; `logs` reads the formats of other tools.

Imports no torch, no Optuna and no command, so that `cnntune diagnose` starts at once.
"""
