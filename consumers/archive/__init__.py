"""The archiver: keeps what the topics say where it can be queried."""
