"""The built-in rules, a module a family; `processors.correlate.catalogue` lists them."""
