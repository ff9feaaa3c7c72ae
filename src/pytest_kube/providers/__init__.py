"""Ways to get a cluster. Providers are unaware of each other."""
