"""The command line: thin, and quick to answer. Only commands that compute import torch."""
