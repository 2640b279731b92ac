"""Evidence of a product and its version against what CVE records say of versions: a verdict, how sure it is, and why."""
