"""CSV tables that people write: a path, and a fact about the tile."""

import csv
from pathlib import Path

from capetown.errors import CapetownError, one_line


def read_path_table(file: Path, column: str) -> dict[str, str]:
    """The value of each path in a CSV file with the columns ``path`` and `column`.

    Raises:
        FileNotFoundError: the file is missing.
        CapetownError: it cannot be read, has another header, an incomplete row, or two values for
            one path.
    """
    header = ["path", column]
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines, strict=True) if row]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CapetownError(f"cannot be read ({error.strerror})", where=file) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CapetownError(
            f"not a CSV file ({one_line(error)})", where=file, fix="save it as CSV in UTF-8"
        ) from error
    if rows[:1] != [header]:
        found = ",".join(rows[0]) if rows else ""
        raise CapetownError(
            f"the header is {found!r}, not {','.join(header)!r}", where=file,
            fix="make that the first line, with commas and no other columns",
        )  # fmt: skip
    values: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) != len(header) or not all(row):
            raise CapetownError(
                f"{','.join(row)!r} is not a path and a {column}", where=file,
                fix="write two values in each line, and quotation marks around commas",
            )  # fmt: skip
        path, value = row
        if values.setdefault(path, value) != value:
            raise CapetownError(f"{path} has two {column}s", where=file, fix="keep one line of it")
    return values
