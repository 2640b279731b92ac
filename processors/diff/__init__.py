"""What changed: folds observations into the state of each asset and tells the difference. Pure, but for `role`."""
