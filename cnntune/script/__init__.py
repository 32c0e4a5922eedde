"""Unmodified training scripts: starting them, observing their loop, judging what was seen.

`observer` and `site` run inside the script's own Python and know nothing of cnntune; `launch`
starts the command and collects one record per process; `rules` are functions of a record.

It must not know torch, recipes or the commands: a record is judged without what it was made with.
"""
