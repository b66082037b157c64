"""Searches: what configurations of a model reach on one data set."""
