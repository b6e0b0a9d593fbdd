"""``python -m experiments leaderboard``: what was recorded, as Markdown, CSV and one page of
HTML."""
