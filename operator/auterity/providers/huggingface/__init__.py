"""Hugging Face: Inference Endpoints."""
