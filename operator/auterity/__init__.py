"""Auterity: integrations at clouds and SaaS vendors, kept as Kubernetes custom resources."""

__version__ = "0.1.0"
