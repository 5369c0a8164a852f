"""From a study to a schedule: what to use, how sure, what to run next.

Other rooms read `along` (Axis, GainAt, axes_of), `cautions` (Caution, other_rate), `compare`
(compare), `every_group` (recommend_every_group), `opinion` (Opinion, Sampling), `pilots`
(transfer), `recommend` (Recommendation), `shipping` (Shipping, ship), `task_worth` (MEASURES,
ScoreCurve, score_curve), `verdict` (HELPS, HURTS, SAME, UNCLEAR), `without_replay` (LossAxis,
best_with_replay, losses_along), `wording` (brief).
"""
