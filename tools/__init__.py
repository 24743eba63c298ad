"""What the project's tests, demo, benchmark and generated files are made with; not shipped."""
