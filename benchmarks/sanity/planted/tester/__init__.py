"""The set-ups that a tester would plant, written after the rules."""
