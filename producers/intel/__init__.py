"""Intelligence: what public feeds say of vulnerabilities, read, joined into one record a CVE, and kept up to date on the topic `intel`."""
