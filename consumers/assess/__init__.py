"""Assess: exposures and decisions folded into findings, which a model may review inside the rules' bounds."""
