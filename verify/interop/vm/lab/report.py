"""Runs checks, says at once how each went, and prints the table at the end."""
import time
import traceback

from .check import Failed, Skipped
from .guest import CommandFailed, Hang

OK, FAIL, SKIPPED = "ok", "FAIL", "skipped"


class Report:
    def __init__(self):
        # (column, check) -> (state, note)
        self.results = {}
        self.columns = []
        self.rows = []

    def note(self, column, row, state, text=""):
        if column not in self.columns:
            self.columns.append(column)
        if row not in self.rows:
            self.rows.append(row)
        self.results[column, row] = (state, text)

    def forget(self, column):
        """A column begins again after the machine hung."""
        for key in [key for key in self.results if key[0] == column]:
            del self.results[key]

    def run(self, column, check, bed):
        """Runs one check; a hang of the machine is passed to the caller."""
        began = time.monotonic()
        mark = bed.router.mark()
        try:
            note = check.run(bed) or ""
            state = OK
        except Skipped as reason:
            state, note = SKIPPED, str(reason)
        except (Failed, CommandFailed) as reason:
            state, note = FAIL, str(reason)
        except Hang:
            raise
        except Exception:
            # A fault in the check itself, or an answer of a form that it does not know: the other checks still say something.
            state, note = FAIL, traceback.format_exc()
        self.note(column, check.name, state, note)
        first = note.splitlines()[0] if note else ""
        print(f"{column:9} {check.name:44} {state:8} {time.monotonic() - began:5.1f} s  {first if state != FAIL else ''}", flush=True)
        if state == FAIL:
            print(indent(note), flush=True)
            print(indent("the daemon's log meanwhile:\n" + (bed.router.log(mark, 40).strip() or "(nothing)")), flush=True)

    def failed(self):
        return any(state == FAIL for state, _ in self.results.values())

    def table(self):
        """Checks as rows, kinds of NIC as columns; reasons of what was skipped below."""
        width = max(len(row) for row in self.rows)
        lines = [" " * width + "".join(f"  {column:>9}" for column in self.columns)]
        for row in self.rows:
            cells = (self.results.get((column, row), ("-", ""))[0] for column in self.columns)
            lines.append(f"{row:{width}}" + "".join(f"  {cell:>9}" for cell in cells))
        for (column, row), (state, note) in self.results.items():
            if state == SKIPPED:
                lines.append(f"skipped: {column}: {row}: {note}")
        return "\n".join(lines)


def indent(text):
    return "\n".join("    | " + line for line in text.splitlines())
