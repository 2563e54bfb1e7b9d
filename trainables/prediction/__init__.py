"""From a trained model and pictures of one's own to predictions, as pictures and as arrays."""
