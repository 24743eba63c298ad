"""Modal: https://modal.com/docs/guide."""
