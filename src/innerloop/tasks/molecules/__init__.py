"""Few-shot drug discovery: what a molecule does, from a few that were measured."""
