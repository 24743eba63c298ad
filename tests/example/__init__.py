"""A provider as another package would bring it, for tests and benches: plain REST, nothing more."""
