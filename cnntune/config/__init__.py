"""Recipes and search spaces as validated values, and the files that hold them.

It must not know torch, or what a builder of data or networks does.
"""
