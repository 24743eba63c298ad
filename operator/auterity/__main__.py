"""`python -m auterity`: the same as the `auterity` command."""

from auterity.cli import main

main()
