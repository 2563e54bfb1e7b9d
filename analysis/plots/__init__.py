"""Draw figures, one module per kind: as a file (Matplotlib) and for the page (Plotly)."""
