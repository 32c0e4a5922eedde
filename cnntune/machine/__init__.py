"""What this machine offers: processors, memory, time, forks, libraries that may be missing.

It must not know what is computed here.
"""
