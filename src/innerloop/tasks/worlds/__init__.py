"""Worlds to act in; a family is a file here. They are reached as `il.worlds.NAME` and `il.tasks.NAME`."""
