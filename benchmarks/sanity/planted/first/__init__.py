"""The set-ups written before and with the rules."""
