"""The local processes of envtest and kwok clusters, and how they trust each other."""
