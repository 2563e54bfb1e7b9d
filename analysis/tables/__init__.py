"""Tables as text, Markdown, LaTeX and Parquet; the papers' published numbers among them."""
