"""Child processes and ports. Knows nothing of Kubernetes."""
