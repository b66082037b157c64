"""Points without labels, drawn from densities that are known."""
