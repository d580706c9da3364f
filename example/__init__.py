"""An application to try the kit on: ``scripts/demo`` shows it at work."""
