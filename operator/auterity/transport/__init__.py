"""How vendors are called: the only code that imports an HTTP client or a vendor's SDK."""
