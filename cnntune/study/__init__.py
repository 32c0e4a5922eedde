"""Which trial runs next, and the record of all trials (Optuna, SQLite, PostgreSQL).

It must not know torch, or what a trial trains.
"""
