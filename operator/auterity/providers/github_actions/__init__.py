"""CIPipelineBinding at GitHub Actions. https://docs.github.com/en/rest/actions."""
