"""A method and a problem that innerloop finds by entry points."""
