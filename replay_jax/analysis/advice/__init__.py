"""From a study to a schedule: what to use, how sure, what to run next.

Other rooms read `every_group` (group_words, readable, recommend_every_group), `recommend`
(Recommendation), `wording` (HELPS, HURTS).
"""
