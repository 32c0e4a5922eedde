"""Networks that start from weights learned on other images (lecture: transfer learning)."""
