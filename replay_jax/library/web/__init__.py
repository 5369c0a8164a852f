"""Web navigation from records to training text, and from predictions to scores."""
