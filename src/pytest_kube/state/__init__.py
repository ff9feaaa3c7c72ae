"""What etcd stores: a set of keys and values at a revision."""
