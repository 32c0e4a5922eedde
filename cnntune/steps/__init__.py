"""What each command does: values in, values and findings out, one module or package each.

It must not know the terminal. Steps import no other step, but for `checks`, `tune` and `report`,
which are made of them.
"""
