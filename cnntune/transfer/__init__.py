"""Learning from a network that has learned before (lecture: transfer learning)."""
