"""The programs of a cluster: which exist, where they are, how to get them."""
