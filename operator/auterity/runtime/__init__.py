"""Where it runs: Kopf and the Kubernetes API."""
