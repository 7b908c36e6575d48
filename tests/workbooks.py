"""A small reader of workbooks, independent of the library that writes them."""

import zipfile
from pathlib import Path
from xml.etree import ElementTree

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_sheets(path: Path) -> dict[str, list[list[str | float | None]]]:
    """Rows by the names of their sheets: texts, numbers, and None. A formula fails."""
    with zipfile.ZipFile(path) as file:
        book = ElementTree.fromstring(file.read("xl/workbook.xml"))
        names = [sheet.attrib["name"] for sheet in book.iter(f"{MAIN}sheet")]
        trees = [
            ElementTree.fromstring(file.read(f"xl/worksheets/sheet{n}.xml"))
            for n in range(1, len(names) + 1)
        ]
    return {name: _rows(tree) for name, tree in zip(names, trees, strict=True)}


def _rows(tree: ElementTree.Element) -> list[list[str | float | None]]:
    assert not list(tree.iter(f"{MAIN}f"))
    found = []
    for row in tree.iter(f"{MAIN}row"):
        cells = {cell.attrib["r"].rstrip("0123456789"): _value(cell) for cell in row}
        width = max((_position(letters) for letters in cells), default=-1) + 1
        values: list[str | float | None] = [None] * width
        for letters, value in cells.items():
            values[_position(letters)] = value
        found.append(values)
    return found


def _position(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: ElementTree.Element) -> str | float | None:
    if cell.get("t") == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{MAIN}t"))
    value = cell.find(f"{MAIN}v")
    return None if value is None or value.text is None else float(value.text)
