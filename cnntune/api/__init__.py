"""What users import: the commands as functions, each with a `Result`.

It must not know how anything is computed or drawn: it converts Python values, calls what the
command calls, and collects document, text and HTML. `cnntune/__init__.py` loads each module when
one of its names is asked for, since `diagnose` needs no torch.
"""
