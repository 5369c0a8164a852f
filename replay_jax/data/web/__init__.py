"""Web navigation: records of WebLINX and Mind2Web as prompts and actions, and what turns score."""
