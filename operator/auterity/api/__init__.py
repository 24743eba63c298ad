"""What users write: pydantic models of every kind, and the CRDs made from them. No I/O."""

GROUP = "integrations.auterity.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
