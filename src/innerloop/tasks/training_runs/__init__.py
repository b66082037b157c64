"""Problems whose tasks are training runs: what adapts to them is an optimizer."""
