"""The command line, the supervisor, the doctor, the demo."""
