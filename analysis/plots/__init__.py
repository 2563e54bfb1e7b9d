"""One file per kind of figure; each draws a file (Matplotlib) and a page element (Plotly)."""
