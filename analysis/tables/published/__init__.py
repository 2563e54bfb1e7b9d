"""The papers' numbers, as data: read by `analysis.papers`, their origin told by README.md."""
