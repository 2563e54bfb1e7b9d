"""Write the self-contained HTML report of a study."""
