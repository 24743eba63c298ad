"""Vector indexes at Weaviate: https://docs.weaviate.io."""
