"""Vector indexes at Redis: https://redis.io/docs/latest/develop/ai/search-and-query."""
