"""What a search is given to work on: surrogates of learning curves, and the real trainable."""
