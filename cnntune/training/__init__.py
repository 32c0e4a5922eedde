"""One run: from a recipe, data and a network to one row per epoch.

It must not know studies, other processes, or files other than one checkpoint.
"""
