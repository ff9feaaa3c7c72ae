"""The local processes of envtest and kwok clusters, and what they need to trust each other."""
