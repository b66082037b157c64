"""Problems whose tasks are of pictures by class."""
