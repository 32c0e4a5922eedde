"""Set-ups with one bug each, and set-ups without any, for `planted_bugs.py`."""
