"""Provides images and their ground truth: sources, the columnar store, augmentation, batches."""
