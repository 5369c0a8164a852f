"""Web navigation: records of WebLINX and Mind2Web as prompts and actions, and what turns score.

Other rooms read `actions` (is_number, read_prediction), `budgets` (Budgets), `predictions`
(read_predictions), `prompting` (conversation_of), `reading` (read_turns), `step_scores`
(step_columns), `turn` (OUT_OF_DOMAIN, SPLITS, WEBLINX, WebTurn), `turn_scores` (judged_by_uid,
left_out, turn_columns).
"""
