"""Problems whose tasks are rows of tables."""
