"""A driver for Python's sqlite3 module, and for apsw where the interpreter has it (see README.md)."""

import sys

extension, entry, database = sys.argv[1:4]

try:
    import apsw

    connection = apsw.Connection(database)
    connection.enable_load_extension(True)
    connection.load_extension(extension, entry)
    connection.enable_load_extension(False)
except ImportError:
    import sqlite3

    connection = sqlite3.connect(database, isolation_level=None)
    connection.enable_load_extension(True)
    if sys.version_info >= (3, 12):
        connection.load_extension(extension, entrypoint=entry)
    else:
        connection.execute("SELECT load_extension(?, ?)", (extension, entry))
    connection.enable_load_extension(False)

for statement in sys.stdin:
    for row in connection.execute(statement):
        print("|".join("NULL" if value is None else str(value) for value in row))

connection.close()
