"""How many visits were done in each ward, and by whom: `python -m examples.clinic.report`.

CLINIC_REPORTS is a login that `syncd views grant` made a reader: row security decides which wards it sees.
"""

import os

import psycopg

VISITS = """
SELECT space_id, coalesce(seen_by, ''), count(*) FROM syncd_app.clinic_visits
WHERE state = 'done' AND NOT deleted GROUP BY 1, 2 ORDER BY 1, 2"""

with psycopg.connect(os.environ["CLINIC_REPORTS"]) as connection:
    for ward, nurse, visits in connection.execute(VISITS):
        print(ward, nurse, visits, sep="\t")
