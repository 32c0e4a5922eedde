"""The steps behind the commands: values in, values and findings out, one module or package each.

They must not know the terminal. Steps do not import each other, except `checks`, `tune` and
`report`, which combine several of them.
"""
