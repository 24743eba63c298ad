"""Keycloak: https://www.keycloak.org/docs-api/latest/rest-api/index.html."""
