"""An adapted learner where it is used: exported files, and a page."""
