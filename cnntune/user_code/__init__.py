"""User code: how it is imported, where it is called, what its exceptions mean.

It must not know what the code is called for.
"""
