"""What may be wrong with a study: each a pure function of its trials; the report has the words."""
