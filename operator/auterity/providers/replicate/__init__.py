"""Replicate: deployments that serve a model, and trainings that make one."""
