"""The folders on disk: rows of epochs, summaries, locks, documents.

It must not know what is trained, or why.
"""
