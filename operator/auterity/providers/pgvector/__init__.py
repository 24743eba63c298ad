"""Vector indexes in PostgreSQL by pgvector: https://github.com/pgvector/pgvector."""
