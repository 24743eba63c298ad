"""Vector indexes at Qdrant: https://qdrant.tech/documentation."""
