"""The notifier: findings in the form that SOC tools read."""
