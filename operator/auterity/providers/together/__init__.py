"""Together AI: https://docs.together.ai/reference."""
