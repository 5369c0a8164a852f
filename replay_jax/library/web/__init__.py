"""Web navigation from records to training text, and from predictions to scores.

Other rooms read `converting` (convert), `scoring` (WebScores, score).
"""
