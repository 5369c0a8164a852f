"""From a study to a schedule: what to use, how sure, what to run next.

Other rooms read `along` (Axis, GainAt, TOKENS, as_number, axes_of), `cautions` (Caution),
`every_group` (recommend_every_group), `opinion` (Opinion, Sampling), `pilots` (transfer),
`recommend` (Recommendation), `shipping` (Shipping, ship), `task_worth` (MEASURES, ScoreCurve,
score_curve), `verdict` (HELPS, HURTS, SAME, UNCLEAR), `wording` (brief).
"""
