"""Make tables as text, Markdown, LaTeX and Parquet, with the papers' published numbers."""
