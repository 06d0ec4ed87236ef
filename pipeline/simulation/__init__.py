"""`warmstart simulate`: users of the synthetic world against the running service, day after day, with nights between.

Who comes and what is new stands in `arrivals.py`, what they truly want in `market.py`, a day in `day.py`, a night in
`night.py`, what is kept of both in `journal.py`, and what it comes to in `figures.py` and `page.py`.
"""
