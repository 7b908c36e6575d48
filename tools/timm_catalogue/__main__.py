"""List timm's backbones by accuracy, size and speed, and write a page with charts.

python -m tools.timm_catalogue --max-params 40 --min-top1 85
"""

import argparse
import sys
from pathlib import Path

from capetown.errors import CapetownError
from capetown.pools.model.architecture import untrainable
from capetown.storage import write_file
from tools.timm_catalogue import catalogue
from tools.timm_catalogue.page import as_page


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    root = argparse.ArgumentParser(prog="python -m tools.timm_catalogue", description=__doc__)
    root.add_argument("--max-params", type=float, metavar="M", help="parameters, in millions")
    root.add_argument("--min-top1", type=float, metavar="PERCENT", help="ImageNet top-1 accuracy")
    root.add_argument("--image-size", type=int, metavar="PX", help="side of the images")
    root.add_argument("--family", help="start of the architecture's name, such as convnext")
    root.add_argument("--accuracy", type=Path, metavar="CSV", help="timm's results, if downloaded")
    root.add_argument("--speed", type=Path, metavar="CSV", help="timm's benchmark, if downloaded")
    root.add_argument(
        "--out", type=Path, default=Path("backbones.html"), metavar="FILE.html", help="the page"
    )
    return root


def run(arguments: argparse.Namespace) -> None:
    """Print the table and the entries for params.yaml, and write the page.

    Raises:
        CapetownError: a table is missing or damaged, or the page cannot be written.
    """
    if arguments.out.suffix != ".html":
        raise CapetownError(f"--out {arguments.out}: name a file that ends in .html.")
    accuracy = arguments.accuracy or catalogue.fetch(catalogue.ACCURACY)
    speed = arguments.speed or catalogue.fetch(catalogue.SPEED)
    table = catalogue.read_catalogue(accuracy, speed, untrainable())
    rows = catalogue.choose(
        table,
        max_parameters=arguments.max_params,
        min_top1=arguments.min_top1,
        image_size=arguments.image_size,
        family=arguments.family,
    )
    print(f"{'model':<60}{'size':>6}{'top-1':>8}{'M params':>10}{'images/s':>10}  best for its")
    for model, size, top1, parameters, images, small, fast in rows.iter_rows():
        best = ", ".join([*["size"] * small, *["speed"] * fast])
        rate = "-" if images is None else f"{images:.0f}"
        print(f"{model:<60}{size:>6}{top1:>8.2f}{parameters:>10.1f}{rate:>10}  {best}")
    print("\nFor `backbones` in params.yaml:")
    for row in rows.filter(rows["small"] | rows["fast"]).iter_rows(named=True):
        print(catalogue.params_entry(row["model"], row["image_size"]), end="")
    write_file(arguments.out, as_page(rows, speed.name).encode())
    print(f"\nPage: {arguments.out}")


def main(argv: list[str] | None = None) -> None:
    """Run the tool; a `CapetownError` becomes one line and exit status 1."""
    try:
        run(parser().parse_args(argv))
    except CapetownError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
