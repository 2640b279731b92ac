"""Intake of targets from people and programs: text, CSV and JSON lines, from files or a pipe that stays open."""
