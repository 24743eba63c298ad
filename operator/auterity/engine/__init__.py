"""How integrations are kept: one algorithm for every kind and vendor. No Kopf, no HTTP, no SDK."""
