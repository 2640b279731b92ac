"""What left this machine for the units in work: seen by a tap, counted in accounts, told on `touches`."""
