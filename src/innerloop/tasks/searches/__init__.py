"""Problems that are searches: what was tried, and how it came out."""
