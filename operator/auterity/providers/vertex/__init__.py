"""Google's Vertex AI: https://cloud.google.com/vertex-ai/docs/reference/rest."""
