"""A CSV table whose columns are parsed strictly: an error names the file, the row, the column and the value."""

from __future__ import annotations

import codecs
import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError, printable

LARGEST_INTEGER = 2**53
SEPARATORS = (",", ";", "\t")
FLAGS = dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True) | dict.fromkeys(
    ("0", "0.0", "false", "f", "no", "n"), False
)
UNKNOWN = frozenset(("na", "n/a", "nan", "<na>", "null", "none"))
"""What R, pandas, databases and Python write for a value that is missing."""
LISTED = 10
"""The number of columns that a message names."""


class CsvTable:
    """A CSV file, read as text; only blanks are missing, since texts such as "NA" may be meant.

    Parameters
    ----------
    path : Path
        The file, in UTF-8 or UTF-16, with commas, semicolons or tabs between the values.
    columns : iterable of str
        The columns that have to be there.

    Attributes
    ----------
    rows : DataFrame
        The texts.
    decimal_comma : bool
        Whether a comma may stand for the decimal point: it does not separate the values.

    Raises
    ------
    EcgkitError
        If the file is missing or no CSV, such as a Git LFS pointer or a web page, or lacks a column or has it twice.
    """

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        self.path, columns = path, tuple(columns)
        if not path.is_file():
            raise EcgkitError(f"no {path.name} in {path.parent}: give the folder of the data set")
        try:
            with path.open("rb") as file:
                start = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n")
            if start.startswith(b"version https://git-lfs"):
                raise EcgkitError(
                    f"{path} is a Git LFS pointer, not the table: run `git lfs pull`, or download the file"
                )
            if start.startswith(b"<"):
                raise EcgkitError(f"{path} is a web page, not the table: download the file itself")
            if start.startswith(b"PK\x03\x04"):
                raise EcgkitError(f"{path} is a workbook or an archive, not a table of text: save it as CSV")
            encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
            separator, header = _read_header(path, encoding, columns)
            self.decimal_comma = separator != ","
            with warnings.catch_warnings():
                # Rows with more fields than the header has would be cut.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                self.rows = pd.read_csv(
                    path,
                    sep=separator,
                    dtype=str,
                    keep_default_na=False,
                    na_values=[""],
                    encoding=encoding,
                    index_col=False,
                )
            self.rows.columns = self.rows.columns.str.strip()
            self.rows = self.rows.dropna(how="all").reset_index(drop=True)
        except EcgkitError:
            raise
        except (ValueError, OSError, csv.Error, pd.errors.ParserWarning) as error:
            way_out = ": save it as UTF-8" if isinstance(error, UnicodeError) else ""
            raise EcgkitError(f"{path} is not a table: {' '.join(str(error).split())}{way_out}") from error
        _check_header(path, header, columns)

    def texts(self, name: str) -> pd.Series[str]:
        """Return a column without white space around its texts; blanks are missing."""
        stripped = self.rows[name].str.strip()
        return stripped.mask(stripped == "")

    def known(self, name: str) -> pd.Series[str]:
        """Return a column that is not free text: what programs write for an unknown value is missing, as blanks are."""
        texts = self.texts(name)
        return texts.mask(texts.str.lower().isin(UNKNOWN))

    def numbers(self, name: str) -> pd.Series[float]:
        """Return a column of numbers, which may be missing or infinite; a text that is not a number is refused."""
        numbers = self.possible_numbers(name)
        self.refuse(name, self.known(name).notna() & numbers.isna(), "not a number")
        return numbers

    def possible_numbers(self, name: str) -> pd.Series[float]:
        """Return the numbers of a column; what is not a number is missing."""
        texts = self.known(name)
        if self.decimal_comma:
            texts = texts.str.replace(",", ".", regex=False)
        return pd.to_numeric(texts, errors="coerce").astype("float64")

    def integers(
        self, name: str, *, low: int = 0, high: int = LARGEST_INTEGER, missing: bool = False
    ) -> pd.Series[int]:
        """Return a column of integers; a fraction, a number out of range and (unless allowed) a blank are refused."""
        numbers = self.numbers(name)
        wrong = ~(numbers.between(low, high) & (numbers % 1 == 0)) & ~(missing & numbers.isna())
        self.refuse(name, wrong, f"not an integer from {low} to {high}")
        return numbers.astype("Int64" if missing else "int64")

    def flags(self, name: str) -> pd.Series[bool]:
        """Return a column of yes and no in any of the usual spellings; blanks are missing."""
        texts = self.known(name)
        flags = texts.str.lower().map(FLAGS)
        self.refuse(name, texts.notna() & flags.isna(), "neither true nor false")
        return flags.astype("boolean")

    def refuse_blanks(self, *names: str) -> None:
        """Refuse a blank in these columns."""
        for name in names:
            self.refuse(name, self.known(name).isna(), "and every record needs one")

    def refuse_duplicates(self, name: str, values: pd.Series | None = None) -> None:
        """Refuse a value that occurs twice; ``values`` are those of the column after parsing."""
        known = (self.rows[name] if values is None else values).dropna()
        again = known.index[known.duplicated()]
        if len(again):
            value = known[again[0]]
            first = known.index[known == value][0]
            raise EcgkitError(
                f"{self.path}: {name} is {str(value)!r} in rows {first + 1} and {again[0] + 1}: keep one of them"
            )

    def refuse(self, name: str, wrong: pd.Series[bool], why: str) -> None:
        """Refuse the table if a value is wrong, and name the first one."""
        if not wrong.any():
            return
        row = int(np.flatnonzero(wrong.to_numpy())[0])
        value = self.rows[name].iloc[row]
        text = "blank" if pd.isna(value) else repr(value[:100])
        more = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
        raise EcgkitError(f"{self.path}: {name} is {text} in row {row + 1}, {why}{more}: correct the table")


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a first row that lacks a column or has one twice."""
    for name in dict.fromkeys([*columns, *filter(None, header)]):
        if header.count(name) != 1:
            found = "no column" if name not in header else "two columns"
            listed = printable(", ".join(header[:LISTED]))[:200] + (", ..." if len(header) > LISTED else "")
            raise EcgkitError(f"{path} has {found} {name!r}: correct the first row, which is {listed or 'blank'}")


def _read_header(path: Path, encoding: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Return the separator by which the first row has the most of these columns, and the row."""
    with path.open(encoding=encoding, newline="") as text:
        line = text.readline()
    rows = {separator: next(csv.reader([line], delimiter=separator), []) for separator in SEPARATORS}
    found = {separator: [name.strip() for name in names] for separator, names in rows.items()}
    separator = max(SEPARATORS, key=lambda one: len(set(columns) & set(found[one])))
    return separator, found[separator]
