"""Fill the sections of the report."""
