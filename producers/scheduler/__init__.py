"""The scheduler: pushes the targets of campaigns when they are due, and tells every partition that time passes."""
