"""The report's charts by name, each an Altair chart that needs nothing but its own data."""

from collections.abc import Callable

from capetown.report.charts import Chart
from capetown.report.facts import Facts
from capetown.report.pool_figures import POOL_FIGURES
from capetown.report.request_facts import Requests
from capetown.report.request_figures import REQUEST_FIGURES
from capetown.report.training_figures import TRAINING_FIGURES


def _of_requests(figure: Callable[[Requests], Chart]) -> Callable[[Facts], Chart]:
    def chart(facts: Facts) -> Chart:
        assert facts.requests is not None
        return figure(facts.requests)

    return chart


FIGURES: dict[str, Callable[[Facts], Chart]] = {
    **{name: _of_requests(figure) for name, figure in REQUEST_FIGURES.items()},
    **POOL_FIGURES,
    **TRAINING_FIGURES,
}
