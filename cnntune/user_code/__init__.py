"""The user's code: where it is found, where it is called, what its exceptions mean.

It must not know what the code is called for.
"""
