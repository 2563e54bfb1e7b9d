"""The papers' numbers, as data: read by `analysis.tables.papers`; README.md tells their origin."""
