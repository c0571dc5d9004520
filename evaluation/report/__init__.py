"""One self-contained page for everything that was measured: tables, plots as inline SVG, the same numbers as JSON."""
