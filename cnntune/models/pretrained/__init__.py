"""Networks that start from pretrained weights (lecture: transfer learning)."""
