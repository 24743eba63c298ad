"""Who is called: one file a vendor, a package from three resources up. Found by file."""

from auterity.providers.catalogue import Catalogue, catalogue

__all__ = ["Catalogue", "catalogue"]
