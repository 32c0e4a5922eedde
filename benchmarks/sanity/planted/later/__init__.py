"""The set-ups written after the rules, before they had seen them."""
