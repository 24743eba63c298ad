"""The demo: five kinds of integration, kept at real servers on this machine."""
