"""What to do with a dataset and which norm to take, ranked by what a study measured on data like it (docs/advice.md).

`choices` names what can be done, `table` holds what the study measured, `estimate` weighs its nearest cells, `advising`
puts it in words.
"""

from assessor.advice.advising import INTERVALS, RANKING, Advice, Choice, advise, advise_on, in_points
from assessor.advice.choices import NETWORKS, check_network
from assessor.advice.table import Cell, Table, installed_table, read_table

__all__ = [
    "INTERVALS",
    "NETWORKS",
    "RANKING",
    "Advice",
    "Cell",
    "Choice",
    "Table",
    "advise",
    "advise_on",
    "check_network",
    "in_points",
    "installed_table",
    "read_table",
]
