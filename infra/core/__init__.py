"""Settings, ports, errors, logs, telemetry: what every part may import."""
