"""The set-ups that people post about, written after the rules."""
