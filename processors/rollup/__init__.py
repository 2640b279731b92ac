"""Windowed figures over `changes` and `agents`, on Faust: derived, and rebuilt from the log at any time."""
