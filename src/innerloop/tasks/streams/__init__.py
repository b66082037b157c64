"""Problems whose tasks are streams: examples that come in an order, and are to be remembered."""
