"""Problems whose tasks are curves, lines or planes: a number from numbers."""
