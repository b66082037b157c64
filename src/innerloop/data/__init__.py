"""Where data sets are, how they are read, how their classes are split. Importing this imports no torch."""
